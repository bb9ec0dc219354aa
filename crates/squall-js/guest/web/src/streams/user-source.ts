// A stream's source that a program wrote.
// https://streams.spec.whatwg.org/#underlying-source-api

import { type AnyFunction, callbackFunction, dictionary, enforceUnsignedLongLong, enumeration, isObject } from "../webidl.js";
import { ByteController } from "./byte-controller.js";
import { wrapByteController, wrapDefaultController } from "./controllers.js";
import { DefaultController } from "./default-controller.js";
import { apply, invoke, NO_VALUES, RESOLVED } from "./promises.js";
import type { Readable, Source } from "./readable.js";
import { highWaterMarkOf, readStrategy } from "./strategies.js";

class UserSource implements Source {
  readonly pulls: boolean;
  /** The arguments of `start` and `pull`: the public controller. */
  values: readonly unknown[] = NO_VALUES;
  readonly #owner: unknown;
  readonly #pull: AnyFunction | undefined;
  readonly #cancel: AnyFunction | undefined;

  constructor(owner: unknown, pull: AnyFunction | undefined, cancel: AnyFunction | undefined) {
    this.#owner = owner;
    this.#pull = pull;
    this.#cancel = cancel;
    this.pulls = pull !== undefined;
  }

  pull(): Promise<unknown> {
    return invoke(this.#pull!, this.#owner, this.values);
  }

  cancel(reason: unknown): Promise<unknown> {
    return this.#cancel === undefined ? RESOLVED : invoke(this.#cancel, this.#owner, [reason]);
  }
}

/** What the constructor of ReadableStream does. */
export function startUserSource(stream: Readable, underlyingSource: unknown, givenStrategy: unknown): void {
  if (underlyingSource !== undefined && !isObject(underlyingSource)) {
    throw new TypeError("The source of a ReadableStream is not an object");
  }
  const strategy = readStrategy(givenStrategy);
  const given = dictionary(underlyingSource, "The source of a ReadableStream") ?? {};
  const chunkSize = given["autoAllocateChunkSize"];
  const autoAllocate = chunkSize === undefined ? 0 : enforceUnsignedLongLong(chunkSize, "autoAllocateChunkSize");
  const cancel = optionalFunction(given, "cancel");
  const pull = optionalFunction(given, "pull");
  const start = optionalFunction(given, "start");
  const type = given["type"] === undefined ? undefined : enumeration(given["type"], ["bytes"], "type");

  const source = new UserSource(underlyingSource, pull, cancel);
  let controller: DefaultController | ByteController;
  if (type === "bytes") {
    if (strategy.sized) throw new RangeError("A byte stream has no size function");
    const mark = highWaterMarkOf(strategy, 0);
    if (chunkSize !== undefined && autoAllocate === 0) throw new TypeError("autoAllocateChunkSize is not 0");
    controller = new ByteController(stream, source, mark, autoAllocate);
    source.values = [wrapByteController(controller)];
  } else {
    controller = new DefaultController(stream, source, highWaterMarkOf(strategy, 1), strategy.size);
    source.values = [wrapDefaultController(controller)];
  }
  controller.begin(start === undefined ? undefined : apply(start, underlyingSource, source.values));
}

export function optionalFunction(given: Record<string, unknown>, name: string): AnyFunction | undefined {
  const value = given[name];
  return value === undefined ? undefined : callbackFunction(value, name);
}
