// All that bodies need of streams, in one place.

import { concatenate } from "../blob.js";
import { createHostStream, failStream, takeUnread } from "../streams/host-stream.js";
import { isDisturbed, ReadableStream } from "../streams/readable-stream.js";
import { streamOfWhole } from "../streams/whole-stream.js";

export { createHostStream, failStream, isDisturbed, ReadableStream, streamOfWhole, takeUnread };

export function isReadableStream(value: unknown): value is ReadableStream {
  return value instanceof ReadableStream;
}

/** Reads a stream to its end. Chunks that are no bytes fail, as in a body. */
export async function readAllBytes(stream: ReadableStream): Promise<Uint8Array> {
  const reader = stream.getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return chunks.length === 1 ? chunks[0]! : concatenate(chunks, length);
    const chunk = value as unknown;
    if (!(chunk instanceof Uint8Array)) {
      throw new TypeError("A body's stream gave a chunk that is no Uint8Array");
    }
    chunks.push(chunk);
    length += chunk.length;
  }
}

/** A stream that gives what another one gives, which is locked from now on. */
// https://streams.spec.whatwg.org/#readablestream-create-a-proxy
export function proxyOf(stream: ReadableStream): ReadableStream {
  const reader = stream.getReader();
  return new ReadableStream(
    {
      async pull(controller: { enqueue(chunk: unknown): void; close(): void }): Promise<void> {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason: unknown) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
