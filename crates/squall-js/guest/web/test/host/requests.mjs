// The operations of requests and bodies: what the layer answers is kept for the test to look at.

/** Bodies that the host has: each an array of chunks, taken from the front. */
export function makeRequestOperations(bodies) {
  /** By request: { status, statusText, headers, body, chunks, failed, error, heeded, ended, left }. */
  const answers = new Map();
  const answerOf = (request) => {
    let answer = answers.get(request);
    if (answer === undefined) {
      answer = { chunks: [], ended: false };
      answer.end = new Promise((resolve) => (answer.onEnd = resolve));
      answers.set(request, answer);
    }
    return answer;
  };
  const end = (request, left) => {
    const answer = answerOf(request);
    Object.assign(answer, { ended: true, left });
    answer.onEnd(answer);
  };
  const takeWhole = (handle, asText) => {
    const whole = Buffer.concat(bodies.get(handle) ?? []);
    bodies.delete(handle);
    return asText ? new TextDecoder().decode(whole) : new Uint8Array(whole);
  };
  const operations = {
    10(request, status, statusText, headers, body) {
      Object.assign(answerOf(request), { status, statusText, headers: Array.from(headers), body });
      return null;
    },
    async 11(request, bytes) {
      answerOf(request).chunks.push(Buffer.from(bytes));
      return null;
    },
    12(request, failed) {
      answerOf(request).failed = failed;
      return null;
    },
    13(request, name, message, stack, passThrough) {
      answerOf(request).error = { name, message, stack, passThrough };
      return null;
    },
    14(request, left) {
      end(request, left);
      return null;
    },
    async 15(handle, largest) {
      const chunks = bodies.get(handle) ?? [];
      const chunk = chunks.shift();
      if (chunk === undefined) return null;
      if (chunk.length > largest) chunks.unshift(chunk.subarray(largest));
      return chunk.subarray(0, largest);
    },
    16(handle) {
      bodies.delete(handle);
      return null;
    },
    19(request) {
      answerOf(request).heeded = true;
      return null;
    },
    100(request, status, statusText, headers, body, left) {
      operations[10](request, status, statusText, headers, body);
      end(request, left);
      return null;
    },
    async 101(handle, asText) {
      return takeWhole(handle, asText);
    },
    102(handle, asText) {
      // What came in one piece is here.
      return bodies.get(handle)?.length === 1 ? takeWhole(handle, asText) : null;
    },
  };
  return { operations, answers, answerOf };
}
