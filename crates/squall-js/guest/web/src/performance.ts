// performance: the clock, marks and measures.
// https://w3c.github.io/hr-time/, https://w3c.github.io/user-timing/

import { DOMException } from "./errors.js";
import { EventTarget } from "./events.js";
import { host } from "./host.js";
import { finishInterface, setLength } from "./interface.js";
import { isLoading } from "./load.js";
import { MONOTONIC_CLOCK, WALL_CLOCK } from "./ops.js";
import { structuredClone } from "./structured-clone.js";
import { dictionary, domString, double, isObject, requireArguments } from "./webidl.js";

/** Asks constructors for an instance, which programs can not. */
let making = false;

function now(): number {
  return host.call(MONOTONIC_CLOCK) as number;
}

export class PerformanceEntry {
  #name: string;
  #entryType: string;
  #startTime: number;
  #duration: number;

  constructor(name: string, entryType: string, startTime: number, duration: number) {
    if (!making) throw new TypeError("Illegal constructor");
    making = false;
    this.#name = name;
    this.#entryType = entryType;
    this.#startTime = startTime;
    this.#duration = duration;
  }

  get name(): string {
    return this.#name;
  }

  get entryType(): string {
    return this.#entryType;
  }

  get startTime(): number {
    return this.#startTime;
  }

  get duration(): number {
    return this.#duration;
  }

  toJSON(): object {
    const { name, entryType, startTime, duration } = this;
    const detail = (this as { detail?: unknown }).detail;
    return detail === undefined
      ? { name, entryType, startTime, duration }
      : { name, entryType, startTime, duration, detail };
  }
}

export class PerformanceMark extends PerformanceEntry {
  #detail: unknown;

  constructor(name: unknown, options: unknown = undefined) {
    requireArguments(arguments.length, 1, "PerformanceMark");
    const text = domString(name);
    const given = dictionary(options, "The options of a mark");
    const startTime = given?.["startTime"] === undefined ? now() : double(given["startTime"], "startTime");
    if (startTime < 0) throw new TypeError("startTime can not be negative");
    making = true;
    super(text, "mark", startTime, 0);
    this.#detail = cloneOf(given?.["detail"]);
  }

  get detail(): unknown {
    return this.#detail;
  }
}

export class PerformanceMeasure extends PerformanceEntry {
  #detail: unknown;

  constructor(name: string, startTime: number, duration: number, detail: unknown) {
    super(name, "measure", startTime, duration);
    this.#detail = detail;
  }

  get detail(): unknown {
    return this.#detail;
  }
}

function cloneOf(detail: unknown): unknown {
  return detail === undefined || detail === null ? null : structuredClone(detail);
}

/** Belongs to an instance; a shared one keeps the newest of what its requests marked. */
let entries: PerformanceEntry[] = [];
const MOST_ENTRIES = 1000;

function keep<T extends PerformanceEntry>(entry: T): T {
  if (entries.length >= MOST_ENTRIES) entries.shift();
  entries.push(entry);
  return entry;
}

let timeOrigin = Number.NaN;

let requireBrand: (performance: Performance) => void;

export class Performance extends EventTarget {
  /** What only its one instance has. */
  #brand = true;

  static {
    requireBrand = (performance) => void performance.#brand;
  }

  constructor() {
    if (!making) throw new TypeError("Illegal constructor");
    making = false;
    super();
  }

  get timeOrigin(): number {
    requireBrand(this);
    if (!Number.isNaN(timeOrigin)) return timeOrigin;
    const origin = (host.call(WALL_CLOCK) as number) - now();
    // What top-level code learns of it is not that of the instances.
    if (!isLoading()) timeOrigin = origin;
    return origin;
  }

  now(): number {
    requireBrand(this);
    return now();
  }

  toJSON(): object {
    requireBrand(this);
    return { timeOrigin: this.timeOrigin };
  }

  mark(name: unknown, options: unknown = undefined): PerformanceMark {
    requireArguments(arguments.length, 1, "performance.mark");
    return keep(new PerformanceMark(name, options));
  }

  measure(name: unknown, startOrOptions: unknown = undefined, endMark: unknown = undefined): PerformanceMeasure {
    requireArguments(arguments.length, 1, "performance.measure");
    const text = domString(name);
    const options = isObject(startOrOptions) ? (startOrOptions as Record<string, unknown>) : null;
    let start: number | undefined;
    let end: number | undefined;
    let detail: unknown = null;
    if (options !== null) {
      const parts = { start: options["start"], end: options["end"], duration: options["duration"] };
      const any = parts.start !== undefined || parts.end !== undefined || parts.duration !== undefined;
      if ((any || options["detail"] !== undefined) && endMark !== undefined) {
        throw new TypeError("An end mark is not given beside options");
      }
      if (any || options["detail"] !== undefined) {
        if (parts.start === undefined && parts.end === undefined) throw new TypeError("A measure needs a start or an end");
        if (parts.start !== undefined && parts.end !== undefined && parts.duration !== undefined) {
          throw new TypeError("A measure has a start, an end or a duration, not all of them");
        }
      }
      detail = cloneOf(options["detail"]);
      const duration = parts.duration === undefined ? undefined : timeOf(parts.duration);
      if (parts.end !== undefined) end = timeOf(parts.end);
      if (parts.start !== undefined) start = timeOf(parts.start);
      if (duration !== undefined && start !== undefined) end = start + duration;
      else if (duration !== undefined && end !== undefined) start = end - duration;
    } else if (startOrOptions !== undefined && startOrOptions !== null) {
      start = timeOf(domString(startOrOptions));
    }
    if (endMark !== undefined) end = timeOf(domString(endMark));
    start ??= 0;
    end ??= now();
    making = true;
    return keep(new PerformanceMeasure(text, start, end - start, detail));
  }

  clearMarks(name: unknown = undefined): void {
    clearEntries("mark", name);
  }

  clearMeasures(name: unknown = undefined): void {
    clearEntries("measure", name);
  }

  getEntries(): PerformanceEntry[] {
    return select(() => true);
  }

  getEntriesByType(type: unknown): PerformanceEntry[] {
    requireArguments(arguments.length, 1, "getEntriesByType");
    const text = domString(type);
    return select((entry) => entry.entryType === text);
  }

  getEntriesByName(name: unknown, type: unknown = undefined): PerformanceEntry[] {
    requireArguments(arguments.length, 1, "getEntriesByName");
    const text = domString(name);
    const typeText = type === undefined ? null : domString(type);
    return select((entry) => entry.name === text && (typeText === null || entry.entryType === typeText));
  }
}

for (const constructor of [PerformanceEntry, PerformanceMark, PerformanceMeasure, Performance]) {
  finishInterface(constructor);
}
setLength(Performance.prototype, "measure", 1);

making = true;
export const performance = new Performance();

function clearEntries(type: string, name: unknown): void {
  const text = name === undefined ? null : domString(name);
  entries = entries.filter((entry) => entry.entryType !== type || (text !== null && entry.name !== text));
}

function select(wanted: (entry: PerformanceEntry) => boolean): PerformanceEntry[] {
  return entries.filter(wanted).sort((first, second) => first.startTime - second.startTime);
}

/** A time, or that of the newest mark with this name. */
// https://w3c.github.io/user-timing/#convert-a-mark-to-a-timestamp
function timeOf(mark: unknown): number {
  if (typeof mark === "number") {
    const time = double(mark, "A time");
    if (time < 0) throw new TypeError("A time can not be negative");
    return time;
  }
  const name = domString(mark);
  const found = entries.findLast((entry) => entry.entryType === "mark" && entry.name === name);
  if (found === undefined) throw new DOMException(`There is no mark ${JSON.stringify(name)}`, "SyntaxError");
  return found.startTime;
}
