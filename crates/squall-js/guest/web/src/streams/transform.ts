// A transform stream without its public face: two streams, and what happens between them.
// https://streams.spec.whatwg.org/#ts-class

import { type DefaultController, makeDefaultStream } from "./default-controller.js";
import { Deferred, microtask, promiseLaterOf, promiseOf, react, rejected } from "./promises.js";
import { ERRORED, type Source } from "./readable.js";
import type { SizeAlgorithm } from "./strategies.js";
import { FAILED, FAILING, type Sink } from "./writable.js";
import { makeWritable, type WritableController } from "./writable-controller.js";

/** What turns chunks into others: an object of the program's, or something of the runtime. */
export interface Transformer {
  /** May throw where nothing can go on; null when it is done. */
  transform(chunk: unknown, transform: Transform): Promise<unknown> | null;
  flush(transform: Transform): Promise<unknown> | null;
  cancel(reason: unknown): Promise<unknown> | null;
}

export interface TransformMarks {
  readonly writableMark: number;
  readonly writableSize: SizeAlgorithm;
  readonly readableMark: number;
  readonly readableSize: SizeAlgorithm;
}

/** One chunk may wait on the way in, none on the way out. */
export const DEFAULT_MARKS: TransformMarks = { writableMark: 1, writableSize: null, readableMark: 0, readableSize: null };

const NOTHING = Symbol("nothing");

export class Transform implements Source, Sink {
  readonly pulls = true;
  readonly readable: DefaultController;
  readonly writable: WritableController;
  /** null when nothing is transformed any more. */
  #transformer: Transformer | null;
  #backpressure = true;
  /** A chunk that waits for somebody to read. */
  #waiting: unknown = NOTHING;
  #finished: Deferred | null = null;
  readonly #writeWaiting = (): void => {
    const chunk = this.#waiting;
    this.#waiting = NOTHING;
    if (this.writable.stream.state === FAILING) {
      this.writable.writeFailed(this.writable.stream.storedError);
      return;
    }
    react(
      this.#perform(chunk),
      () => this.writable.written(),
      (reason) => {
        this.fail(reason);
        this.writable.writeFailed(reason);
      },
    );
  };

  constructor(transformer: Transformer, marks: TransformMarks) {
    this.#transformer = transformer;
    this.writable = makeWritable(this, marks.writableMark, marks.writableSize);
    this.readable = makeDefaultStream(this, marks.readableMark, marks.readableSize);
  }

  begin(started: unknown): void {
    const start = promiseLaterOf(promiseOf(started));
    this.writable.begin(start);
    this.readable.begin(start);
  }

  // What transformers do.

  enqueue(chunk: unknown): void {
    const readable = this.readable;
    if (!readable.canEnqueue) throw new TypeError("The readable side is closed or failed: it takes no more chunks");
    try {
      readable.enqueue(chunk);
    } catch (error) {
      this.#failWritable(error);
      throw readable.stream.storedError;
    }
    if (!readable.wantsMore && !this.#backpressure) this.#setBackpressure();
  }

  fail(reason: unknown): void {
    this.readable.fail(reason);
    this.#failWritable(reason);
  }

  terminate(): void {
    this.readable.close();
    this.#failWritable(new TypeError("The transform was terminated"));
  }

  // https://streams.spec.whatwg.org/#transform-stream-error-writable-and-unblock-write
  #failWritable(reason: unknown): void {
    this.#transformer = null;
    this.writable.failIfNeeded(reason);
    this.#clearBackpressure();
  }

  #setBackpressure(): void {
    this.#backpressure = true;
    // The pull that asked for chunks is over.
    this.readable.pulled();
  }

  #clearBackpressure(): void {
    if (!this.#backpressure) return;
    this.#backpressure = false;
    if (this.#waiting !== NOTHING) microtask(this.#writeWaiting);
  }

  // As the sink of the writable side.

  write(chunk: unknown): Promise<unknown> | null {
    if (!this.#backpressure) return this.#perform(chunk);
    this.#waiting = chunk;
    return null;
  }

  #perform(chunk: unknown): Promise<unknown> {
    try {
      return this.#transformer!.transform(chunk, this) ?? promiseOf(undefined);
    } catch (error) {
      return rejected(error);
    }
  }

  writeFailed(reason: unknown): void {
    this.fail(reason);
  }

  // https://streams.spec.whatwg.org/#transform-stream-default-sink-close-algorithm
  close(): Promise<unknown> {
    if (this.#finished !== null) return this.#finished.promise;
    const finished = (this.#finished = new Deferred());
    const transformer = this.#transformer;
    const { readable } = this;
    let flushed: Promise<unknown>;
    try {
      flushed = transformer?.flush(this) ?? promiseOf(undefined);
    } catch (error) {
      flushed = rejected(error);
    }
    this.#transformer = null;
    react(
      flushed,
      () => {
        if (readable.stream.state === ERRORED) {
          finished.reject(readable.stream.storedError);
        } else {
          readable.close();
          finished.resolve(undefined);
        }
      },
      (reason) => {
        readable.fail(reason);
        finished.reject(reason);
      },
    );
    return finished.promise;
  }

  // https://streams.spec.whatwg.org/#transform-stream-default-sink-abort-algorithm
  abort(reason: unknown): Promise<unknown> {
    if (this.#finished !== null) return this.#finished.promise;
    const finished = (this.#finished = new Deferred());
    const { readable } = this;
    react(
      this.#cancelTransformer(reason),
      () => {
        if (readable.stream.state === ERRORED) {
          finished.reject(readable.stream.storedError);
        } else {
          readable.fail(reason);
          finished.resolve(undefined);
        }
      },
      (error) => {
        readable.fail(error);
        finished.reject(error);
      },
    );
    return finished.promise;
  }

  #cancelTransformer(reason: unknown): Promise<unknown> {
    const transformer = this.#transformer;
    this.#transformer = null;
    try {
      return promiseLaterOf(transformer?.cancel(reason));
    } catch (error) {
      return rejected(error);
    }
  }

  // As the source of the readable side.

  /** Over when there is backpressure again. */
  pull(): null {
    this.#clearBackpressure();
    return null;
  }

  // https://streams.spec.whatwg.org/#transform-stream-default-source-cancel
  cancel(reason: unknown): Promise<unknown> {
    if (this.#finished !== null) return this.#finished.promise;
    const finished = (this.#finished = new Deferred());
    const { writable } = this;
    react(
      this.#cancelTransformer(reason),
      () => {
        if (writable.stream.state === FAILED) {
          finished.reject(writable.stream.storedError);
        } else {
          writable.failIfNeeded(reason);
          this.#clearBackpressure();
          finished.resolve(undefined);
        }
      },
      (error) => {
        writable.failIfNeeded(error);
        this.#clearBackpressure();
        finished.reject(error);
      },
    );
    return finished.promise;
  }
}

