// A stream's sink that a program wrote.
// https://streams.spec.whatwg.org/#underlying-sink-api

import { type AnyFunction, dictionary, isObject } from "../webidl.js";
import { apply, invoke, NO_VALUES, RESOLVED } from "./promises.js";
import { highWaterMarkOf, readStrategy } from "./strategies.js";
import { optionalFunction } from "./user-source.js";
import type { Sink, Writable } from "./writable.js";
import { WritableController } from "./writable-controller.js";
import { wrapWritableController } from "./writable-stream.js";

class UserSink implements Sink {
  /** The public controller. */
  controller: object | null = null;
  readonly #owner: unknown;
  readonly #write: AnyFunction | undefined;
  readonly #close: AnyFunction | undefined;
  readonly #abort: AnyFunction | undefined;

  constructor(
    owner: unknown,
    write: AnyFunction | undefined,
    close: AnyFunction | undefined,
    abort: AnyFunction | undefined,
  ) {
    this.#owner = owner;
    this.#write = write;
    this.#close = close;
    this.#abort = abort;
  }

  write(chunk: unknown): Promise<unknown> {
    return this.#write === undefined ? RESOLVED : invoke(this.#write, this.#owner, [chunk, this.controller]);
  }

  writeFailed(): void {}

  close(): Promise<unknown> {
    return this.#close === undefined ? RESOLVED : invoke(this.#close, this.#owner, NO_VALUES);
  }

  abort(reason: unknown): Promise<unknown> {
    return this.#abort === undefined ? RESOLVED : invoke(this.#abort, this.#owner, [reason]);
  }
}

/** What the constructor of WritableStream does. */
export function startUserSink(stream: Writable, underlyingSink: unknown, givenStrategy: unknown): void {
  if (underlyingSink !== undefined && !isObject(underlyingSink)) {
    throw new TypeError("The sink of a WritableStream is not an object");
  }
  const strategy = readStrategy(givenStrategy);
  const given = dictionary(underlyingSink, "The sink of a WritableStream") ?? {};
  const abort = optionalFunction(given, "abort");
  const close = optionalFunction(given, "close");
  const start = optionalFunction(given, "start");
  if (given["type"] !== undefined) throw new RangeError("There are no types of sinks");
  const write = optionalFunction(given, "write");
  const sink = new UserSink(underlyingSink, write, close, abort);
  const controller = new WritableController(stream, sink, highWaterMarkOf(strategy, 1), strategy.size);
  sink.controller = wrapWritableController(controller);
  controller.begin(start === undefined ? undefined : apply(start, underlyingSink, [sink.controller]));
}
