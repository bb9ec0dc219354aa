// A stream of what an iterable gives.
// https://streams.spec.whatwg.org/#readable-stream-from-iterable

import { isObject } from "../webidl.js";
import { DefaultController, makeDefaultStream } from "./default-controller.js";
import { promiseOf, react, rejected, resolved } from "./promises.js";
import type { Readable, Source } from "./readable.js";

type AnyIterator = Iterator<unknown> | AsyncIterator<unknown>;

class IterableSource implements Source {
  readonly pulls = true;
  controller!: DefaultController;
  readonly #iterator: AnyIterator;
  readonly #next: (this: AnyIterator) => unknown;
  /** Iterators that are not asynchronous may give promises, which become chunks when they settle. */
  readonly #isAsync: boolean;
  readonly #take = (result: unknown): void => this.#enqueue(result);

  constructor(iterator: AnyIterator, isAsync: boolean) {
    this.#iterator = iterator;
    this.#next = iterator.next as (this: AnyIterator) => unknown;
    this.#isAsync = isAsync;
  }

  pull(): Promise<unknown> {
    try {
      const result = this.#next.call(this.#iterator);
      if (this.#isAsync) return react(resolved(result), this.#take as (value: never) => void);
      const { done, value } = objectOf(result);
      if (!done) return react(promiseOf(value), (chunk: unknown) => this.controller.enqueue(chunk));
      this.controller.close();
      return promiseOf(undefined);
    } catch (error) {
      return rejected(error);
    }
  }

  #enqueue(result: unknown): void {
    const { done, value } = objectOf(result);
    if (done) this.controller.close();
    else this.controller.enqueue(value);
  }

  cancel(reason: unknown): Promise<unknown> {
    const iterator = this.#iterator;
    try {
      const finish = iterator.return as ((value: unknown) => unknown) | undefined | null;
      if (finish === undefined || finish === null) return promiseOf(undefined);
      const result = finish.call(iterator, reason);
      if (!this.#isAsync) return promiseOf(objectOf(result).value);
      return react(promiseOf(result), (settled: unknown) => void objectOf(settled));
    } catch (error) {
      return rejected(error);
    }
  }
}

function objectOf(result: unknown): IteratorResult<unknown> {
  if (!isObject(result)) throw new TypeError("The iterator gave something that is no object");
  return result as IteratorResult<unknown>;
}

export function startFromIterable(value: unknown): Readable {
  const { iterator, isAsync } = iteratorOf(value);
  const source = new IterableSource(iterator, isAsync);
  const controller = makeDefaultStream(source, 0);
  source.controller = controller;
  controller.begin(undefined);
  return controller.stream;
}

function iteratorOf(value: unknown): { iterator: AnyIterator; isAsync: boolean } {
  if (value === undefined || value === null) throw new TypeError("ReadableStream.from needs an iterable");
  const iterable = value as Partial<AsyncIterable<unknown> & Iterable<unknown>>;
  const asyncMethod = iterable[Symbol.asyncIterator] as (() => AsyncIterator<unknown>) | undefined | null;
  const isAsync = asyncMethod !== undefined && asyncMethod !== null;
  const method = isAsync ? asyncMethod : iterable[Symbol.iterator];
  if (typeof method !== "function") throw new TypeError("ReadableStream.from needs an iterable");
  const iterator = (method as (this: unknown) => unknown).call(value);
  if (!isObject(iterator)) throw new TypeError("The iterator is no object");
  return { iterator: iterator as AnyIterator, isAsync };
}
