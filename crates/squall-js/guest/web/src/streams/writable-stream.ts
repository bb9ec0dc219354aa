// WritableStream, its controller and its writer as programs see them.
// https://streams.spec.whatwg.org/#ws

import type { AbortSignal } from "../abort.js";
import { finishInterface } from "../interface.js";
import { requireArguments } from "../webidl.js";
import { Deferred, rejected } from "./promises.js";
import { startUserSink } from "./user-sink.js";
import { Writable, WRITING, type WriteRequest } from "./writable.js";
import type { WritableController } from "./writable-controller.js";
import { releasedError, Writer } from "./writer.js";

export let isWritableStream: (value: unknown) => value is WritableStream;
/** The stream without its public face; throws for anything else. */
export let writableOf: (stream: unknown) => Writable;
/** The public face of a stream of the runtime's own. */
export let wrapWritable: (writable: Writable) => WritableStream;
export let wrapWritableController: (controller: WritableController) => WritableStreamDefaultController;

/** What the next object is to stand for. */
let wrapped: Writable | WritableController | null = null;

export class WritableStream {
  #writable: Writable;

  static {
    isWritableStream = (value): value is WritableStream =>
      typeof value === "object" && value !== null && #writable in value;
    writableOf = (stream) => {
      if (!isWritableStream(stream)) throw new TypeError("This is no WritableStream");
      return stream.#writable;
    };
    wrapWritable = (writable) => {
      wrapped = writable;
      return new WritableStream();
    };
  }

  constructor(underlyingSink: unknown = undefined, strategy: unknown = undefined) {
    if (wrapped !== null) {
      this.#writable = wrapped as Writable;
      wrapped = null;
      return;
    }
    this.#writable = new Writable();
    startUserSink(this.#writable, underlyingSink, strategy);
  }

  get locked(): boolean {
    return this.#writable.writer !== null;
  }

  abort(reason: unknown = undefined): Promise<undefined> {
    if (!isWritableStream(this)) return illegal();
    if (this.#writable.writer !== null) return rejected(new TypeError("A locked stream is aborted by its writer"));
    return this.#writable.abort(reason);
  }

  close(): Promise<undefined> {
    if (!isWritableStream(this)) return illegal();
    const writable = this.#writable;
    if (writable.writer !== null) return rejected(new TypeError("A locked stream is closed by its writer"));
    if (writable.closing) return rejected(new TypeError("The stream is being closed already"));
    return writable.close();
  }

  getWriter(): WritableStreamDefaultWriter {
    void this.#writable;
    return new WritableStreamDefaultWriter(this);
  }
}

finishInterface(WritableStream);

function illegal(): Promise<never> {
  return rejected(new TypeError("Illegal invocation: this is no such object"));
}

// https://streams.spec.whatwg.org/#ws-default-controller-class
export class WritableStreamDefaultController {
  #controller: WritableController;

  static {
    wrapWritableController = (controller) => {
      wrapped = controller;
      return new WritableStreamDefaultController();
    };
  }

  constructor() {
    if (wrapped === null) throw new TypeError("Illegal constructor");
    this.#controller = wrapped as WritableController;
    wrapped = null;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  error(reason: unknown = undefined): void {
    const controller = this.#controller;
    if (controller.stream.state === WRITING) controller.fail(reason);
  }
}

finishInterface(WritableStreamDefaultController);

class WritePromise extends Deferred implements WriteRequest {
  written(): void {
    this.settle(undefined);
  }

  failed(reason: unknown): void {
    this.reject(reason);
  }
}

let isWriter: (value: unknown) => boolean;

// https://streams.spec.whatwg.org/#default-writer-class
export class WritableStreamDefaultWriter {
  #writer: Writer;

  static {
    isWriter = (value) => typeof value === "object" && value !== null && #writer in value;
  }

  constructor(stream: unknown) {
    requireArguments(arguments.length, 1, "WritableStreamDefaultWriter");
    this.#writer = new Writer(writableOf(stream));
  }

  get closed(): Promise<undefined> {
    return isWriter(this) ? this.#writer.closed : illegal();
  }

  get desiredSize(): number | null {
    return this.#writer.desiredSize;
  }

  get ready(): Promise<undefined> {
    return isWriter(this) ? this.#writer.ready : illegal();
  }

  abort(reason: unknown = undefined): Promise<undefined> {
    return isWriter(this) ? this.#writer.abort(reason) : illegal();
  }

  close(): Promise<undefined> {
    return isWriter(this) ? this.#writer.close() : illegal();
  }

  releaseLock(): void {
    this.#writer.release();
  }

  write(chunk: unknown = undefined): Promise<undefined> {
    if (!isWriter(this)) return illegal();
    if (this.#writer.stream === null) return rejected(releasedError());
    const request = new WritePromise();
    this.#writer.write(chunk, request);
    return request.promise;
  }
}

finishInterface(WritableStreamDefaultWriter);
