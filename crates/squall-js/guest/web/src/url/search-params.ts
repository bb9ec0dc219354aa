// URLSearchParams: a flat list, parsed when it is first asked for.
// https://url.spec.whatwg.org/#interface-urlsearchparams

import { finishInterface, setLength } from "../interface.js";
import { definePairIteration } from "../pair-iterator.js";
import { parseForm, serializeForm } from "./form-encoding.js";

/** Set by url.ts: the list of a URL has changed, and `query` is its new serialisation. */
let queryChanged: (owner: object, query: string) => void;

export function onQueryChange(listener: (owner: object, query: string) => void): void {
  queryChanged = listener;
}

/** The searchParams of the URL `owner`. */
export let makeLinkedParams: (query: string, owner: object) => URLSearchParams;
/** The owner's query was replaced by other means. */
export let resetParams: (params: URLSearchParams, query: string) => void;
export let isSearchParams: (value: object) => value is URLSearchParams;
let listOf: (params: URLSearchParams) => string[];

export class URLSearchParams {
  #list: string[] | null = null;
  /** What `#list` will be made of. */
  #query = "";
  #owner: object | null = null;

  static {
    makeLinkedParams = (query, owner) => {
      const params = new URLSearchParams();
      params.#query = query;
      params.#owner = owner;
      return params;
    };
    resetParams = (params, query) => {
      params.#query = query;
      params.#list = null;
    };
    isSearchParams = (value): value is URLSearchParams => #list in value;
    listOf = (params) => params.#pairs();
  }

  constructor(init: unknown = "") {
    if (typeof init === "string") {
      this.#query = withoutQuestionMark(init.toWellFormed());
    } else if ((typeof init === "object" && init !== null) || typeof init === "function") {
      const iterator = (init as Partial<Iterable<unknown>>)[Symbol.iterator];
      this.#list =
        iterator === undefined || iterator === null
          ? listFromRecord(init)
          : listFromPairs(init as Iterable<unknown>);
    } else {
      this.#query = withoutQuestionMark(text(init));
    }
  }

  get size(): number {
    return this.#pairs().length / 2;
  }

  append(name: unknown, value: unknown): void {
    this.#expect(arguments.length, 2, "append");
    const nameText = text(name);
    this.#pairs().push(nameText, text(value));
    this.#changed();
  }

  delete(name: unknown, value: unknown = undefined): void {
    this.#expect(arguments.length, 1, "delete");
    const nameText = text(name);
    const valueText = value === undefined ? undefined : text(value);
    const kept: string[] = [];
    const list = this.#pairs();
    for (let index = 0; index < list.length; index += 2) {
      const matches =
        list[index] === nameText && (valueText === undefined || list[index + 1] === valueText);
      if (!matches) kept.push(list[index]!, list[index + 1]!);
    }
    this.#list = kept;
    this.#changed();
  }

  get(name: unknown): string | null {
    this.#expect(arguments.length, 1, "get");
    const nameText = text(name);
    const list = this.#pairs();
    for (let index = 0; index < list.length; index += 2) {
      if (list[index] === nameText) return list[index + 1]!;
    }
    return null;
  }

  getAll(name: unknown): string[] {
    this.#expect(arguments.length, 1, "getAll");
    const nameText = text(name);
    const list = this.#pairs();
    const values: string[] = [];
    for (let index = 0; index < list.length; index += 2) {
      if (list[index] === nameText) values.push(list[index + 1]!);
    }
    return values;
  }

  has(name: unknown, value: unknown = undefined): boolean {
    this.#expect(arguments.length, 1, "has");
    const nameText = text(name);
    const valueText = value === undefined ? undefined : text(value);
    const list = this.#pairs();
    for (let index = 0; index < list.length; index += 2) {
      if (list[index] !== nameText) continue;
      if (valueText === undefined || list[index + 1] === valueText) return true;
    }
    return false;
  }

  set(name: unknown, value: unknown): void {
    this.#expect(arguments.length, 2, "set");
    const nameText = text(name);
    const valueText = text(value);
    const list = this.#pairs();
    const kept: string[] = [];
    let found = false;
    for (let index = 0; index < list.length; index += 2) {
      if (list[index] !== nameText) kept.push(list[index]!, list[index + 1]!);
      else if (!found) {
        found = true;
        kept.push(nameText, valueText);
      }
    }
    if (!found) kept.push(nameText, valueText);
    this.#list = kept;
    this.#changed();
  }

  sort(): void {
    const list = this.#pairs();
    const order: number[] = [];
    for (let index = 0; index < list.length; index += 2) order.push(index);
    // By UTF-16 code units, and stable: what comparison of strings and sort do.
    order.sort((a, b) => (list[a]! < list[b]! ? -1 : list[a]! > list[b]! ? 1 : 0));
    const sorted: string[] = [];
    for (const index of order) sorted.push(list[index]!, list[index + 1]!);
    this.#list = sorted;
    this.#changed();
  }

  toString(): string {
    return serializeForm(this.#pairs());
  }

  #pairs(): string[] {
    return (this.#list ??= parseForm(this.#query));
  }

  #changed(): void {
    if (this.#owner !== null) queryChanged(this.#owner, serializeForm(this.#pairs()));
  }

  #expect(given: number, least: number, method: string): void {
    if (given < least) throw new TypeError(`URLSearchParams.${method} needs ${least} arguments`);
  }
}

finishInterface(URLSearchParams);
setLength(URLSearchParams.prototype, "delete", 1);
definePairIteration(URLSearchParams, (target) => listOf(target as URLSearchParams));

function text(value: unknown): string {
  return (typeof value === "string" ? value : `${value}`).toWellFormed();
}

function withoutQuestionMark(query: string): string {
  return query.charCodeAt(0) === 0x3f ? query.slice(1) : query;
}

const isEnumerable = Object.prototype.propertyIsEnumerable;

function listFromRecord(record: object): string[] {
  // Two keys may become one when lone surrogates are replaced: the last value wins.
  const pairs = new Map<string, string>();
  for (const key of Reflect.ownKeys(record)) {
    if (!isEnumerable.call(record, key)) continue;
    if (typeof key === "symbol") throw new TypeError("A symbol is no parameter name");
    pairs.set(text(key), text((record as Record<string, unknown>)[key]));
  }
  const list: string[] = [];
  for (const [name, value] of pairs) list.push(name, value);
  return list;
}

function listFromPairs(pairs: Iterable<unknown>): string[] {
  const list: string[] = [];
  for (const pair of pairs) {
    if ((typeof pair !== "object" && typeof pair !== "function") || pair === null) {
      throw new TypeError("A parameter pair is a sequence of two strings");
    }
    const items = [...(pair as Iterable<unknown>)];
    if (items.length !== 2) throw new TypeError("A parameter pair has exactly two items");
    list.push(text(items[0]), text(items[1]));
  }
  return list;
}
