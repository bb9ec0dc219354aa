// Headers over a flat list: lower-case name, value, name, value. The list is the one that the
// host gave or will be given; a Headers object exists only when somebody asks for it, and
// changes the list in place.
// https://fetch.spec.whatwg.org/#headers-class

import { finishInterface, setLength } from "../interface.js";
import { definePairIteration } from "../pair-iterator.js";
import { normalizeHeaderName, normalizeHeaderValue } from "./header-syntax.js";

/** Makes a Headers object that reads and writes `list`. */
export let wrapHeaders: (list: string[], immutable: boolean) => Headers;
/** The list behind a Headers object, not a copy. */
export let headerListOf: (headers: Headers) => string[];
let isHeaders: (value: object) => value is Headers;
let sortedListOf: (headers: Headers) => string[];

export class Headers {
  #list: string[];
  #immutable = false;
  /** What iteration shows; null when the list has changed since. */
  #sorted: string[] | null = null;

  static {
    wrapHeaders = (list, immutable) => {
      const headers = new Headers();
      headers.#list = list;
      headers.#immutable = immutable;
      return headers;
    };
    headerListOf = (headers) => headers.#list;
    isHeaders = (value): value is Headers => #list in value;
    // The host's list may grow under an iterator by the owner's changes, never by itself.
    sortedListOf = (headers) => (headers.#sorted ??= sortAndCombine(headers.#list));
  }

  constructor(init: unknown = undefined) {
    this.#list = init === undefined ? [] : headerListFrom(init);
  }

  append(name: unknown, value: unknown): void {
    this.#expect(arguments.length, 2, "append");
    const normalizedName = normalizeHeaderName(name);
    const normalizedValue = normalizeHeaderValue(value);
    this.#beforeChange();
    this.#list.push(normalizedName, normalizedValue);
  }

  delete(name: unknown): void {
    this.#expect(arguments.length, 1, "delete");
    const normalizedName = normalizeHeaderName(name);
    this.#beforeChange();
    removeFrom(this.#list, normalizedName, 0);
  }

  get(name: unknown): string | null {
    this.#expect(arguments.length, 1, "get");
    return headerOf(this.#list, normalizeHeaderName(name));
  }

  getSetCookie(): string[] {
    const values: string[] = [];
    const list = this.#list;
    let index = findHeader(list, "set-cookie", 0);
    while (index >= 0) {
      values.push(list[index + 1]!);
      index = findHeader(list, "set-cookie", index + 2);
    }
    return values;
  }

  has(name: unknown): boolean {
    this.#expect(arguments.length, 1, "has");
    return findHeader(this.#list, normalizeHeaderName(name), 0) >= 0;
  }

  set(name: unknown, value: unknown): void {
    this.#expect(arguments.length, 2, "set");
    const normalizedName = normalizeHeaderName(name);
    const normalizedValue = normalizeHeaderValue(value);
    this.#beforeChange();
    setHeader(this.#list, normalizedName, normalizedValue);
  }

  #beforeChange(): void {
    if (this.#immutable) {
      throw new TypeError("These headers are immutable; copy them with new Headers(headers) first");
    }
    this.#sorted = null;
  }

  #expect(given: number, least: number, method: string): void {
    if (given < least) throw new TypeError(`Headers.${method} needs ${least} arguments`);
  }
}

finishInterface(Headers);
setLength(Headers.prototype, "append", 2);
definePairIteration(Headers, (target) => sortedListOf(target as Headers));
const originalIterator = (Headers.prototype as unknown as Iterable<unknown>)[Symbol.iterator];

/** A new list from what a constructor was given: Headers, pairs or a record. */
export function headerListFrom(init: unknown): string[] {
  if ((typeof init !== "object" && typeof init !== "function") || init === null) {
    throw new TypeError("Headers are given as an object, as pairs or as Headers");
  }
  const iterator = (init as Partial<Iterable<unknown>>)[Symbol.iterator];
  if (iterator === undefined || iterator === null) return listFromRecord(init);
  if (iterator === originalIterator && isHeaders(init)) return headerListOf(init).slice();
  return listFromPairs(init as Iterable<unknown>);
}

/** Index of the name at or after `from`, which is even; -1 when there is none. */
export function findHeader(list: readonly string[], name: string, from: number): number {
  let index = list.indexOf(name, from);
  // A value may look like the name; values stand at odd places.
  while (index >= 0 && (index & 1) !== 0) index = list.indexOf(name, index + 1);
  return index;
}

/** All values of a header, combined, or null. */
export function headerOf(list: readonly string[], name: string): string | null {
  let index = findHeader(list, name, 0);
  if (index < 0) return null;
  let value = list[index + 1]!;
  for (;;) {
    index = findHeader(list, name, index + 2);
    if (index < 0) return value;
    value += `, ${list[index + 1]}`;
  }
}

/** Replaces all values of a header by one. */
export function setHeader(list: string[], name: string, value: string): void {
  const index = findHeader(list, name, 0);
  if (index < 0) {
    list.push(name, value);
    return;
  }
  list[index + 1] = value;
  removeFrom(list, name, index + 2);
}

function removeFrom(list: string[], name: string, from: number): void {
  let index = findHeader(list, name, from);
  while (index >= 0) {
    list.splice(index, 2);
    index = findHeader(list, name, index);
  }
}

const isEnumerable = Object.prototype.propertyIsEnumerable;

function listFromRecord(record: object): string[] {
  const list: string[] = [];
  for (const key of Reflect.ownKeys(record)) {
    // Seen through a proxy this is [[GetOwnProperty]], as Web IDL asks, without its object.
    if (!isEnumerable.call(record, key)) continue;
    if (typeof key === "symbol") throw new TypeError("A symbol is no header name");
    const name = normalizeHeaderName(key);
    list.push(name, normalizeHeaderValue((record as Record<string, unknown>)[key]));
  }
  return list;
}

function listFromPairs(pairs: Iterable<unknown>): string[] {
  const list: string[] = [];
  for (const pair of pairs) {
    if ((typeof pair !== "object" && typeof pair !== "function") || pair === null) {
      throw new TypeError("A header pair is a sequence of two strings");
    }
    const items = [...(pair as Iterable<unknown>)];
    if (items.length !== 2) throw new TypeError("A header pair has exactly two items");
    list.push(normalizeHeaderName(items[0]), normalizeHeaderValue(items[1]));
  }
  return list;
}

// https://fetch.spec.whatwg.org/#concept-header-list-sort-and-combine
function sortAndCombine(list: readonly string[]): string[] {
  const names: string[] = [];
  for (let index = 0; index < list.length; index += 2) {
    if (!names.includes(list[index]!)) names.push(list[index]!);
  }
  names.sort();
  const sorted: string[] = [];
  for (const name of names) {
    if (name !== "set-cookie") {
      sorted.push(name, headerOf(list, name)!);
      continue;
    }
    let index = findHeader(list, name, 0);
    while (index >= 0) {
      sorted.push(name, list[index + 1]!);
      index = findHeader(list, name, index + 2);
    }
  }
  return sorted;
}
