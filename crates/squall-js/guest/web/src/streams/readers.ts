// Readers without their public faces. The promise `closed` is made when somebody asks for it.
// https://streams.spec.whatwg.org/#generic-reader-mixin

import type { ByteController } from "./byte-controller.js";
import { Deferred, failedDeferred, rejected, resolvedDeferred } from "./promises.js";
import { Queue } from "./queue.js";
import { CLOSED, ERRORED, READABLE, type Readable, type ReadIntoRequest, type ReadRequest } from "./readable.js";

/** Hears of the end of the stream at once. */
export interface ReaderWatcher {
  sourceClosed(): void;
  sourceFailed(reason: unknown): void;
}

abstract class Reader<Request extends { error(reason: unknown): void }> {
  stream: Readable | null;
  readonly requests = new Queue<Request>();
  watcher: ReaderWatcher | null = null;
  #closed: Deferred | null = null;

  constructor(stream: Readable) {
    if (stream.reader !== null) throw new TypeError("The stream is locked to a reader already");
    this.stream = stream;
    stream.reader = this as never;
  }

  get closed(): Promise<undefined> {
    return (this.#closed ??= this.#makeClosed()).promise;
  }

  #makeClosed(): Deferred {
    const stream = this.stream;
    if (stream === null) return failedDeferred(releasedError());
    if (stream.state === READABLE) return new Deferred();
    return stream.state === CLOSED ? resolvedDeferred() : failedDeferred(stream.storedError);
  }

  streamClosed(): void {
    this.#closed?.resolve(undefined);
    this.watcher?.sourceClosed();
  }

  streamFailed(reason: unknown): void {
    this.#closed?.fail(reason);
    this.watcher?.sourceFailed(reason);
  }

  cancel(reason: unknown): Promise<undefined> {
    return this.stream === null ? rejected(releasedError()) : this.stream.cancel(reason);
  }

  // https://streams.spec.whatwg.org/#readable-stream-reader-generic-release
  release(): void {
    const stream = this.stream;
    if (stream === null) return;
    if (this.#closed !== null) {
      if (stream.state === READABLE) this.#closed.fail(releasedError());
      else this.#closed = null;
    }
    this.watcher = null;
    stream.controller.release();
    stream.reader = null;
    this.stream = null;
    if (this.requests.length === 0) return;
    const error = releasedError();
    for (const request of this.requests.drain()) request.error(error);
  }
}

export class DefaultReader extends Reader<ReadRequest> {
  readonly isByob = false as const;

  /** The reader must not have been released. */
  // https://streams.spec.whatwg.org/#readable-stream-default-reader-read
  read(request: ReadRequest): void {
    const stream = this.stream!;
    stream.disturbed = true;
    if (stream.state === READABLE) stream.controller.pull(request);
    else if (stream.state === CLOSED) request.close();
    else request.error(stream.storedError);
  }
}

export class ByobReader extends Reader<ReadIntoRequest> {
  readonly isByob = true as const;

  constructor(stream: Readable) {
    if (!("pullInto" in stream.controller)) throw new TypeError("Only byte streams have readers of the mode byob");
    super(stream);
  }

  // https://streams.spec.whatwg.org/#readable-stream-byob-reader-read
  read(view: ArrayBufferView<ArrayBuffer>, least: number, request: ReadIntoRequest): void {
    const stream = this.stream!;
    stream.disturbed = true;
    if (stream.state === ERRORED) request.error(stream.storedError);
    else (stream.controller as ByteController).pullInto(view, least, request);
  }
}

export function releasedError(): TypeError {
  return new TypeError("The reader was released from its stream");
}
