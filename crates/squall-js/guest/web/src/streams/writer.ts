// A writer without its public face. Its promises are made when somebody asks for them.
// https://streams.spec.whatwg.org/#default-writer-class

import { Deferred, failedDeferred, rejected, resolved, resolvedDeferred } from "./promises.js";
import { DONE, FAILED, FAILING, type Writable, WRITING, type WriteRequest } from "./writable.js";

/** Hears of the end of the stream, and of room in it, at once. */
export interface WriterWatcher {
  ready(): void;
  destinationFailed(reason: unknown): void;
}

export class Writer {
  stream: Writable | null;
  watcher: WriterWatcher | null = null;
  #closed: Deferred | null = null;
  #ready: Deferred | null = null;
  /** What both promises are rejected with after the release. */
  #released: TypeError | null = null;

  constructor(stream: Writable) {
    if (stream.writer !== null) throw new TypeError("The stream is locked to a writer already");
    this.stream = stream;
    stream.writer = this;
  }

  get closed(): Promise<undefined> {
    return (this.#closed ??= this.#makeClosed()).promise;
  }

  get ready(): Promise<undefined> {
    return (this.#ready ??= this.#makeReady()).promise;
  }

  #makeClosed(): Deferred {
    const stream = this.stream;
    if (stream === null) return failedDeferred(this.#released);
    if (stream.state === DONE) return resolvedDeferred();
    return stream.state === FAILED ? failedDeferred(stream.storedError) : new Deferred();
  }

  #makeReady(): Deferred {
    const stream = this.stream;
    if (stream === null) return failedDeferred(this.#released);
    if (stream.state === FAILING || stream.state === FAILED) return failedDeferred(stream.storedError);
    const waits = stream.state === WRITING && stream.backpressure && !stream.closing;
    return waits ? new Deferred() : resolvedDeferred();
  }

  get desiredSize(): number | null {
    const stream = this.stream;
    if (stream === null) throw releasedError();
    if (stream.state === WRITING) return stream.controller.desiredSize;
    return stream.state === DONE ? 0 : null;
  }

  // https://streams.spec.whatwg.org/#writable-stream-default-writer-write
  write(chunk: unknown, request: WriteRequest): void {
    const stream = this.stream!;
    const size = stream.controller.sizeOf(chunk);
    // The strategy's size may have released the writer, or ended the stream.
    if (this.stream !== stream) return request.failed(releasedError());
    if (stream.state === FAILED || (stream.state === FAILING && !stream.closing)) {
      return request.failed(stream.storedError);
    }
    if (stream.closing || stream.state === DONE) {
      return request.failed(new TypeError("The stream is closed or is being closed"));
    }
    stream.addWrite(request);
    stream.controller.write(chunk, size);
  }

  abort(reason: unknown): Promise<undefined> {
    return this.stream === null ? rejected(releasedError()) : this.stream.abort(reason);
  }

  close(): Promise<undefined> {
    const stream = this.stream;
    if (stream === null) return rejected(releasedError());
    if (stream.closing) return rejected(new TypeError("The stream is being closed already"));
    return stream.close();
  }

  // https://streams.spec.whatwg.org/#writable-stream-default-writer-close-with-error-propagation
  closeWithErrorPropagation(): Promise<undefined> {
    const stream = this.stream!;
    if (stream.closing || stream.state === DONE) return resolved(undefined);
    if (stream.state === FAILED) return rejected(stream.storedError);
    return this.close();
  }

  // https://streams.spec.whatwg.org/#writable-stream-default-writer-release
  release(): void {
    const stream = this.stream;
    if (stream === null) return;
    this.watcher = null;
    stream.writer = null;
    this.stream = null;
    this.#released = releasedError();
    this.failReady(this.#released);
    if (this.#closed?.pending === true) this.#closed.fail(this.#released);
    else this.#closed = null;
  }

  // What the stream tells its writer.

  streamClosed(): void {
    this.#closed?.resolve(undefined);
  }

  streamFailed(reason: unknown): void {
    this.#closed?.fail(reason);
    this.watcher?.destinationFailed(reason);
  }

  becomeReady(): void {
    if (this.#ready?.pending === true) this.#ready.resolve(undefined);
    this.watcher?.ready();
  }

  becomeUnready(): void {
    this.#ready = null;
  }

  /** The next promise is a rejected one; one that is pending is rejected. */
  failReady(reason: unknown): void {
    if (this.#ready?.pending === true) this.#ready.fail(reason);
    else this.#ready = null;
  }
}

export function releasedError(): TypeError {
  return new TypeError("The writer was released from its stream");
}
