// Queuing strategies.
// https://streams.spec.whatwg.org/#qs

import { finishInterface } from "../interface.js";
import { type AnyFunction, callbackFunction, dictionary, requireArguments } from "../webidl.js";

/** The size of a chunk; null where every chunk counts as one. */
export type SizeAlgorithm = ((chunk: unknown) => number) | null;

export interface Strategy {
  /** undefined where none was given. */
  readonly highWaterMark: number | undefined;
  readonly size: SizeAlgorithm;
  /** Whether a size function was given. */
  readonly sized: boolean;
}

const NO_STRATEGY: Strategy = { highWaterMark: undefined, size: null, sized: false };

/** The dictionary QueuingStrategy; the high water mark is not checked yet. */
export function readStrategy(value: unknown): Strategy {
  const given = dictionary(value, "A queuing strategy");
  if (given === null) return NO_STRATEGY;
  const mark = given["highWaterMark"];
  const highWaterMark = mark === undefined ? undefined : Number(mark);
  const size = given["size"];
  if (size === undefined) return { highWaterMark, size: null, sized: false };
  const callback = callbackFunction(size, "size");
  // Counting needs no call, as long as it is our own function.
  if (callback === countSize) return { highWaterMark, size: null, sized: true };
  return { highWaterMark, size: sizeBy(callback), sized: true };
}

function sizeBy(callback: AnyFunction): SizeAlgorithm {
  return (chunk) => Number(callback(chunk));
}

// https://streams.spec.whatwg.org/#validate-and-normalize-high-water-mark
export function highWaterMarkOf(strategy: Strategy, otherwise: number): number {
  const mark = strategy.highWaterMark;
  if (mark === undefined) return otherwise;
  if (!(mark >= 0)) throw new RangeError(`${mark} is no high water mark`);
  return mark;
}

function readInit(value: unknown): number {
  const mark = dictionary(value, "The settings of a queuing strategy")?.["highWaterMark"];
  if (mark === undefined) throw new TypeError("A queuing strategy needs a highWaterMark");
  return Number(mark);
}

// The same functions for all instances; arrows, as they are no constructors.
const byteLengthSize = (chunk: { byteLength: unknown }): unknown => chunk.byteLength;
const countSize: AnyFunction = () => 1;
for (const size of [byteLengthSize, countSize]) Object.defineProperty(size, "name", { value: "size", configurable: true });

export class ByteLengthQueuingStrategy {
  #highWaterMark: number;

  constructor(init: unknown) {
    requireArguments(arguments.length, 1, "ByteLengthQueuingStrategy");
    this.#highWaterMark = readInit(init);
  }

  get highWaterMark(): number {
    return this.#highWaterMark;
  }

  get size(): (chunk: { byteLength: unknown }) => unknown {
    void this.#highWaterMark;
    return byteLengthSize;
  }
}

finishInterface(ByteLengthQueuingStrategy);

export class CountQueuingStrategy {
  #highWaterMark: number;

  constructor(init: unknown) {
    requireArguments(arguments.length, 1, "CountQueuingStrategy");
    this.#highWaterMark = readInit(init);
  }

  get highWaterMark(): number {
    return this.#highWaterMark;
  }

  get size(): AnyFunction {
    void this.#highWaterMark;
    return countSize;
  }
}

finishInterface(CountQueuingStrategy);
