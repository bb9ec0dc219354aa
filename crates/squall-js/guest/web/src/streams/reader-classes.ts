// The readers as programs see them.
// https://streams.spec.whatwg.org/#default-reader-class

import { finishInterface } from "../interface.js";
import { dictionary, enforceUnsignedLongLong, requireArguments } from "../webidl.js";
import { isDetached, requireView } from "./buffers.js";
import { Deferred, rejected, resolved } from "./promises.js";
import { EMPTY, READABLE, type ReadIntoRequest, type ReadRequest } from "./readable.js";
import { ByobReader, DefaultReader, releasedError } from "./readers.js";
import { readableOf } from "./readable-stream.js";

export interface ReadResult<T = unknown> {
  value: T | undefined;
  done: boolean;
}

export class ReadPromise extends Deferred<ReadResult> implements ReadRequest {
  chunk(value: unknown): void {
    this.settle({ value, done: false });
  }

  close(): void {
    this.settle({ value: undefined, done: true });
  }

  error(reason: unknown): void {
    this.reject(reason);
  }
}

class ReadIntoPromise extends Deferred<ReadResult<ArrayBufferView>> implements ReadIntoRequest {
  chunk(value: ArrayBufferView): void {
    this.settle({ value, done: false });
  }

  close(value: ArrayBufferView | undefined): void {
    this.settle({ value, done: true });
  }

  error(reason: unknown): void {
    this.reject(reason);
  }
}

function notAReader(): Promise<never> {
  return rejected(new TypeError("Illegal invocation: this is no such reader"));
}

let isDefaultReader: (value: unknown) => boolean;

export class ReadableStreamDefaultReader {
  #reader: DefaultReader;

  static {
    isDefaultReader = (value) => typeof value === "object" && value !== null && #reader in value;
  }

  constructor(stream: unknown) {
    requireArguments(arguments.length, 1, "ReadableStreamDefaultReader");
    this.#reader = new DefaultReader(readableOf(stream));
  }

  get closed(): Promise<undefined> {
    return isDefaultReader(this) ? this.#reader.closed : notAReader();
  }

  cancel(reason: unknown = undefined): Promise<undefined> {
    return isDefaultReader(this) ? this.#reader.cancel(reason) : notAReader();
  }

  read(): Promise<ReadResult> {
    if (!isDefaultReader(this)) return notAReader();
    const reader = this.#reader;
    const stream = reader.stream;
    if (stream === null) return rejected(releasedError());
    // A chunk at hand needs no one to wait for it.
    if (stream.state === READABLE && reader.requests.length === 0) {
      stream.disturbed = true;
      const value = stream.controller.take();
      if (value !== EMPTY) return resolved({ value, done: false });
    }
    const request = new ReadPromise();
    reader.read(request);
    return request.promise;
  }

  releaseLock(): void {
    this.#reader.release();
  }
}

finishInterface(ReadableStreamDefaultReader);

let isByobReader: (value: unknown) => boolean;

// https://streams.spec.whatwg.org/#byob-reader-class
export class ReadableStreamBYOBReader {
  #reader: ByobReader;

  static {
    isByobReader = (value) => typeof value === "object" && value !== null && #reader in value;
  }

  constructor(stream: unknown) {
    requireArguments(arguments.length, 1, "ReadableStreamBYOBReader");
    this.#reader = new ByobReader(readableOf(stream));
  }

  get closed(): Promise<undefined> {
    return isByobReader(this) ? this.#reader.closed : notAReader();
  }

  cancel(reason: unknown = undefined): Promise<undefined> {
    return isByobReader(this) ? this.#reader.cancel(reason) : notAReader();
  }

  read(view: unknown, options: unknown = undefined): Promise<ReadResult<ArrayBufferView>> {
    if (!isByobReader(this)) return notAReader();
    const reader = this.#reader;
    const request = new ReadIntoPromise();
    try {
      requireArguments(arguments.length, 1, "read");
      const target = requireView(view, "What read takes");
      const least = leastOf(options);
      checkTarget(target, least);
      if (reader.stream === null) throw releasedError();
      reader.read(target, least, request);
    } catch (error) {
      request.error(error);
    }
    return request.promise;
  }

  releaseLock(): void {
    this.#reader.release();
  }
}

finishInterface(ReadableStreamBYOBReader);

function leastOf(options: unknown): number {
  const least = dictionary(options, "The options of read")?.["min"];
  return least === undefined ? 1 : enforceUnsignedLongLong(least, "min");
}

function checkTarget(view: ArrayBufferView<ArrayBuffer>, least: number): void {
  if (view.byteLength === 0) throw new TypeError("A view to read into is not empty");
  if (view.buffer.byteLength === 0 || isDetached(view.buffer)) {
    throw new TypeError("The buffer of the view is empty or detached");
  }
  if (least === 0) throw new TypeError("min is not 0");
  const length = view instanceof DataView ? view.byteLength : (view as Uint8Array).length;
  if (least > length) throw new RangeError("min is more than the view can hold");
}

