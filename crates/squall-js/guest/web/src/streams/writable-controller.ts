// Where chunks wait for their sink.
// https://streams.spec.whatwg.org/#ws-default-controller-class

import { AbortController, type AbortSignal } from "../abort.js";
import { promiseOf, react } from "./promises.js";
import { SizedQueue } from "./queue.js";
import type { SizeAlgorithm } from "./strategies.js";
import { FAILING, type Sink, Writable, WRITING } from "./writable.js";

export class WritableController {
  readonly stream: Writable;
  started = false;
  /** null when the stream has ended: nothing holds on to what the program gave. */
  #sink: Sink | null;
  readonly #highWaterMark: number;
  #size: SizeAlgorithm;
  readonly #queue: SizedQueue;
  /** Behind all chunks of the queue there is the end. */
  #closeQueued = false;
  #abortController: AbortController | null = null;
  /** The reason of an abort that came before anybody asked for the signal. */
  #abortReason: { reason: unknown } | null = null;
  #onWritten: (() => void) | null = null;
  #onWriteFailed: ((reason: unknown) => void) | null = null;

  constructor(stream: Writable, sink: Sink, highWaterMark: number, size: SizeAlgorithm) {
    this.stream = stream;
    stream.controller = this;
    this.#sink = sink;
    this.#highWaterMark = highWaterMark;
    this.#size = size;
    this.#queue = new SizedQueue(size !== null);
    stream.backpressure = this.#hasBackpressure;
  }

  /** Nothing is written before this promise, or value, of the sink's start. */
  begin(started: unknown): void {
    react(
      promiseOf(started),
      () => this.beginNow(),
      (reason) => {
        this.started = true;
        this.stream.dealWithRejection(reason);
      },
    );
  }

  beginNow(): void {
    this.started = true;
    this.#advance();
  }

  get signal(): AbortSignal {
    if (this.#abortController === null) {
      this.#abortController = new AbortController();
      if (this.#abortReason !== null) this.#abortController.abort(this.#abortReason.reason);
    }
    return this.#abortController.signal;
  }

  signalAbort(reason: unknown): void {
    this.#abortReason ??= { reason };
    this.#abortController?.abort(reason);
  }

  get desiredSize(): number {
    return this.#highWaterMark - this.#queue.total;
  }

  get #hasBackpressure(): boolean {
    return this.#highWaterMark <= this.#queue.total;
  }

  /** null where every chunk counts as one. A strategy that throws fails the stream. */
  sizeOf(chunk: unknown): number | null {
    if (this.#size === null) return null;
    try {
      return this.#size(chunk);
    } catch (error) {
      this.failIfNeeded(error);
      return 1;
    }
  }

  write(chunk: unknown, size: number | null): void {
    if (size === null) {
      this.#queue.push(chunk);
    } else {
      try {
        this.#queue.pushSized(chunk, size);
      } catch (error) {
        this.failIfNeeded(error);
        return;
      }
    }
    const stream = this.stream;
    if (stream.state === WRITING && !stream.closing) stream.updateBackpressure(this.#hasBackpressure);
    this.#advance();
  }

  close(): void {
    this.#closeQueued = true;
    this.#advance();
  }

  failIfNeeded(reason: unknown): void {
    if (this.stream.state === WRITING) this.fail(reason);
  }

  fail(reason: unknown): void {
    this.#clear();
    this.stream.startFailing(reason);
  }

  abort(reason: unknown): Promise<unknown> {
    // A sink that is gone was cleared by an error; then there is nothing to abort.
    const sink = this.#sink;
    const result = sink === null ? promiseOf(undefined) : sink.abort(reason);
    this.#clear();
    return result;
  }

  clearQueue(): void {
    this.#queue.clear();
    this.#closeQueued = false;
  }

  #clear(): void {
    // It hears of the failure of what it has under way.
    if (this.stream.writeInFlight === null) this.#sink = null;
    this.#size = null;
  }

  // https://streams.spec.whatwg.org/#writable-stream-default-controller-advance-queue-if-needed
  #advance(): void {
    const stream = this.stream;
    if (!this.started || stream.writeInFlight !== null) return;
    if (stream.state === FAILING) {
      stream.finishFailing();
      return;
    }
    if (this.#queue.length > 0) this.#writeFirst();
    else if (this.#closeQueued) this.#closeSink();
  }

  #writeFirst(): void {
    this.stream.beginWrite();
    const promise = this.#sink!.write(this.#queue.peek());
    if (promise === null) return;
    this.#onWritten ??= () => this.written();
    this.#onWriteFailed ??= (reason) => {
      this.#sink?.writeFailed(reason);
      this.writeFailed(reason);
    };
    react(promise, this.#onWritten, this.#onWriteFailed);
  }

  /** The sink is done with the first chunk. */
  written(): void {
    const stream = this.stream;
    // Before anybody hears of it: a pipe may write the next chunk at once.
    this.#queue.shift();
    stream.finishWrite();
    if (stream.state === WRITING && !stream.closing) stream.updateBackpressure(this.#hasBackpressure);
    this.#advance();
  }

  writeFailed(reason: unknown): void {
    const stream = this.stream;
    if (stream.state === WRITING) this.#clear();
    stream.failWrite(reason);
  }

  #closeSink(): void {
    const stream = this.stream;
    this.#closeQueued = false;
    stream.beginClose();
    const promise = this.#sink!.close();
    this.#clear();
    react(
      promise,
      () => stream.finishClose(),
      (reason) => stream.failClose(reason),
    );
  }
}

/** A stream of the runtime's own. Its controller begins when it is told to. */
export function makeWritable(sink: Sink, highWaterMark: number, size: SizeAlgorithm = null): WritableController {
  return new WritableController(new Writable(), sink, highWaterMark, size);
}

