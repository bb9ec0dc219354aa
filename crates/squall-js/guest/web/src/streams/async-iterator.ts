// for await over a stream.
// https://streams.spec.whatwg.org/#rs-asynciterator
// https://webidl.spec.whatwg.org/#js-asynchronous-iterator-prototype-object

import { react, rejected, resolved } from "./promises.js";
import { EMPTY, READABLE, type Readable } from "./readable.js";
import { ReadPromise, type ReadResult } from "./reader-classes.js";
import { DefaultReader } from "./readers.js";

class Iteration {
  readonly reader: DefaultReader;
  readonly preventCancel: boolean;
  /** The step under way: steps wait for one another. */
  ongoing: Promise<ReadResult> | null = null;
  finished = false;

  constructor(readable: Readable, preventCancel: boolean) {
    this.reader = new DefaultReader(readable);
    this.preventCancel = preventCancel;
  }

  next(): Promise<ReadResult> {
    if (this.finished) return resolved({ value: undefined, done: true });
    const stream = this.reader.stream!;
    if (stream.state === READABLE) {
      stream.disturbed = true;
      const value = stream.controller.take();
      if (value !== EMPTY) return resolved({ value, done: false });
    }
    const step = new Step(this);
    // A turn later than the read itself, as the standard has it: what pulls for the next one is first.
    const result = react(step.promise, same) as Promise<ReadResult>;
    this.ongoing = result;
    this.reader.read(step);
    return result;
  }

  finish(value: unknown): Promise<ReadResult> {
    if (this.finished) return resolved({ value, done: true });
    this.finished = true;
    const cancelled = this.preventCancel ? resolved(undefined) : this.reader.cancel(value);
    this.reader.release();
    return react(cancelled, () => ({ value, done: true })) as Promise<ReadResult>;
  }
}

const same = (result: ReadResult): ReadResult => result;

class Step extends ReadPromise {
  readonly iteration: Iteration;

  constructor(iteration: Iteration) {
    super();
    this.iteration = iteration;
  }

  override chunk(value: unknown): void {
    this.iteration.ongoing = null;
    super.chunk(value);
  }

  override close(): void {
    this.#end();
    super.close();
  }

  override error(reason: unknown): void {
    this.#end();
    super.error(reason);
  }

  #end(): void {
    this.iteration.ongoing = null;
    this.iteration.finished = true;
    this.iteration.reader.release();
  }
}

const ASYNC_ITERATOR = Object.getPrototypeOf(
  (Object.getPrototypeOf(async function* () {}) as { prototype: object }).prototype,
) as object;

const iterations = new WeakMap<object, Iteration>();
const PROTOTYPE = Object.create(ASYNC_ITERATOR) as AsyncIterator<unknown>;

// Members of an object literal are no constructors, and enumerable.
const members = {
  next(): Promise<ReadResult> {
    const iteration = iterations.get(this);
    if (iteration === undefined) return notAnIterator();
    if (iteration.ongoing === null) return iteration.next();
    const next = (): Promise<ReadResult> => iteration.next();
    return (iteration.ongoing = react(iteration.ongoing, next, next) as Promise<ReadResult>);
  },
  return(value: unknown): Promise<ReadResult> {
    const iteration = iterations.get(this);
    if (iteration === undefined) return notAnIterator();
    if (iteration.ongoing === null) return (iteration.ongoing = iteration.finish(value));
    const finish = (): Promise<ReadResult> => iteration.finish(value);
    return (iteration.ongoing = react(iteration.ongoing, finish, finish) as Promise<ReadResult>);
  },
};
Object.defineProperties(PROTOTYPE, Object.getOwnPropertyDescriptors(members));
Object.defineProperty(PROTOTYPE, Symbol.toStringTag, { value: "ReadableStream AsyncIterator", configurable: true });

function notAnIterator(): Promise<never> {
  return rejected(new TypeError("Illegal invocation: this is no iterator of a ReadableStream"));
}

export function makeAsyncIterator(readable: Readable, preventCancel: boolean): AsyncIterator<unknown> {
  const iterator = Object.create(PROTOTYPE) as AsyncIterator<unknown>;
  iterations.set(iterator, new Iteration(readable, preventCancel));
  return iterator;
}
