// Where the chunks of a stream that is not a byte stream wait.
// https://streams.spec.whatwg.org/#rs-default-controller-class

import { promiseOf, react } from "./promises.js";
import { SizedQueue } from "./queue.js";
import { type Controller, EMPTY, ERRORED, READABLE, Readable, type ReadRequest, type Source } from "./readable.js";
import type { DefaultReader } from "./readers.js";
import type { SizeAlgorithm } from "./strategies.js";

export class DefaultController implements Controller {
  readonly stream: Readable;
  /** null when the stream has ended: nothing holds on to what the program gave. */
  source: Source | null;
  closeRequested = false;
  readonly #highWaterMark: number;
  #size: SizeAlgorithm;
  readonly #queue: SizedQueue;
  #started = false;
  #pulling = false;
  #pullAgain = false;
  #onPulled: (() => void) | null = null;
  #onPullFailed: ((reason: unknown) => void) | null = null;

  constructor(stream: Readable, source: Source, highWaterMark: number, size: SizeAlgorithm) {
    this.stream = stream;
    stream.controller = this;
    this.source = source;
    this.#highWaterMark = highWaterMark;
    this.#size = size;
    this.#queue = new SizedQueue(size !== null);
  }

  /** Nothing is pulled before this promise, or value, of the source's start. */
  begin(started: unknown): void {
    // Starting is observed through pulling only.
    if (started === undefined && !this.source?.pulls) {
      this.#started = true;
      return;
    }
    react(
      promiseOf(started),
      () => this.beginNow(),
      (reason) => this.fail(reason),
    );
  }

  beginNow(): void {
    this.#started = true;
    this.pullIfNeeded();
  }

  get desiredSize(): number | null {
    const state = this.stream.state;
    if (state === READABLE) return this.#highWaterMark - this.#queue.total;
    return state === ERRORED ? null : 0;
  }

  get canEnqueue(): boolean {
    return !this.closeRequested && this.stream.state === READABLE;
  }

  /** The stream must be able to take it. Throws what its strategy throws. */
  enqueue(chunk: unknown): void {
    const reader = this.stream.reader as DefaultReader | null;
    if (reader !== null && reader.requests.length > 0) {
      reader.requests.shift().chunk(chunk);
    } else if (this.#size === null) {
      this.#queue.push(chunk);
    } else {
      try {
        const size = this.#size(chunk);
        // The strategy may have ended the stream, and then nobody reads what is pushed.
        this.#queue.pushSized(chunk, size);
      } catch (error) {
        this.fail(error);
        throw error;
      }
    }
    this.pullIfNeeded();
  }

  close(): void {
    if (!this.canEnqueue) return;
    this.closeRequested = true;
    if (this.#queue.length > 0) return;
    this.#clear();
    this.stream.close();
  }

  fail(reason: unknown): void {
    if (this.stream.state !== READABLE) return;
    this.#queue.clear();
    this.#clear();
    this.stream.fail(reason);
  }

  take(): unknown {
    const queue = this.#queue;
    if (queue.length === 0) return EMPTY;
    const chunk = queue.shift();
    if (this.closeRequested && queue.length === 0) {
      this.#clear();
      this.stream.close();
    } else {
      this.pullIfNeeded();
    }
    return chunk;
  }

  pull(request: ReadRequest): void {
    const chunk = this.take();
    if (chunk !== EMPTY) {
      request.chunk(chunk);
      return;
    }
    (this.stream.reader as DefaultReader).requests.push(request);
    this.pullIfNeeded();
  }

  cancel(reason: unknown): Promise<unknown> {
    this.#queue.clear();
    const source = this.source!;
    const result = source.cancel(reason);
    this.#clear();
    return result;
  }

  release(): void {}

  /** Whether the source should be asked for more; without that, a transform has to wait. */
  get wantsMore(): boolean {
    const { state, reader } = this.stream;
    if (state !== READABLE || this.closeRequested || !this.#started) return false;
    if (reader !== null && reader.requests.length > 0) return true;
    return this.#highWaterMark > this.#queue.total;
  }

  pullIfNeeded(): void {
    const source = this.source;
    if (source === null || !source.pulls || !this.wantsMore) return;
    if (this.#pulling) {
      this.#pullAgain = true;
      return;
    }
    this.#pulling = true;
    const promise = source.pull();
    if (promise === null) return;
    this.#onPulled ??= () => this.pulled();
    this.#onPullFailed ??= (reason) => this.fail(reason);
    react(promise, this.#onPulled, this.#onPullFailed);
  }

  pulled(): void {
    this.#pulling = false;
    if (!this.#pullAgain) return;
    this.#pullAgain = false;
    this.pullIfNeeded();
  }

  #clear(): void {
    this.source = null;
    this.#size = null;
  }
}

/** A stream of the runtime's own. Its controller begins when it is told to. */
export function makeDefaultStream(source: Source, highWaterMark: number, size: SizeAlgorithm = null): DefaultController {
  return new DefaultController(new Readable(), source, highWaterMark, size);
}
