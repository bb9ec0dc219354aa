// Values as text, for console and node:util. The shape is that of Node.js, so that logs read as
// people know them; not every detail of it is.

import { isDomException } from "./errors.js";
import { host } from "./host.js";
import { interfacePrototypes } from "./interface.js";

export interface InspectOptions {
  /** How many levels below the value are shown. */
  depth: number;
  showHidden: boolean;
  /** Members of one array, map or set. */
  maxArrayLength: number;
  maxStringLength: number;
  /** A line that would be longer is broken. */
  breakLength: number;
  /** This many of the innermost levels share a line when it is short enough. */
  compact: number;
  sorted: boolean;
  getters: boolean;
  customInspect: boolean;
}

export const DEFAULT_OPTIONS: InspectOptions = {
  ...{ depth: 2, showHidden: false, maxArrayLength: 100, maxStringLength: 10_000, breakLength: 80, compact: 3 },
  ...{ sorted: false, getters: false, customInspect: true },
};

export const customInspect = Symbol.for("nodejs.util.inspect.custom");

interface State {
  readonly options: InspectOptions;
  /** The objects around the one that is being shown. */
  readonly around: object[];
  /** Objects that appear within themselves, numbered. */
  readonly circular: Map<object, number>;
  indentation: number;
}

export function inspect(value: unknown, options: Partial<InspectOptions> | undefined = undefined): string {
  const all = options === undefined ? DEFAULT_OPTIONS : { ...DEFAULT_OPTIONS, ...options };
  const fixed = all.depth === null ? { ...all, depth: Number.POSITIVE_INFINITY } : all;
  return show(value, { options: fixed, around: [], circular: new Map(), indentation: 0 });
}

function show(value: unknown, state: State): string {
  switch (typeof value) {
    case "string":
      return showString(value, state);
    case "number":
      return Object.is(value, -0) ? "-0" : `${value}`;
    case "bigint":
      return `${value}n`;
    case "symbol":
      return value.toString();
    case "object":
      return value === null ? "null" : showObject(value, state);
    case "function":
      return showObject(value, state);
    default:
      return `${value as undefined | boolean}`;
  }
}

/** Quoted: with the quote that needs the fewest escapes. */
export function quote(text: string): string {
  let mark = "'";
  if (text.includes("'")) mark = !text.includes('"') ? '"' : !text.includes("`") && !text.includes("${") ? "`" : "'";
  let quoted = mark;
  for (const character of text) {
    const point = character.codePointAt(0)!;
    if (character === mark || character === "\\") quoted += `\\${character}`;
    else if (point < 0x20 || point === 0x7f) quoted += ESCAPES[character] ?? `\\x${hex(point, 2)}`;
    else if (point >= 0xd800 && point <= 0xdfff) quoted += `\\u${hex(point, 4)}`;
    else quoted += character;
  }
  return quoted + mark;
}

const ESCAPES: Record<string, string> = {
  ...{ "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r" },
};

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, "0");
}

function showString(text: string, state: State): string {
  const { maxStringLength } = state.options;
  let rest = "";
  if (text.length > maxStringLength) {
    const left = text.length - maxStringLength;
    rest = `... ${left} more character${left === 1 ? "" : "s"}`;
    text = text.slice(0, maxStringLength);
  }
  // A long text of many lines is broken at its line ends.
  if (state.around.length > 0 && text.length > 16 && text.length > state.options.breakLength - state.indentation - 10) {
    const lines = text.split(/(?<=\n)/);
    if (lines.length > 1) return lines.map(quote).join(` +\n${" ".repeat(state.indentation + 2)}`) + rest;
  }
  return quote(text) + rest;
}

function showObject(value: object, state: State): string {
  const custom = customText(value, state);
  if (custom !== null) return custom;
  if (state.around.includes(value)) {
    let number = state.circular.get(value);
    if (number === undefined) {
      number = state.circular.size + 1;
      state.circular.set(value, number);
    }
    return `[Circular *${number}]`;
  }
  return showFresh(value, state);
}

function customText(value: object, state: State): string | null {
  if (!state.options.customInspect) return null;
  const method = (value as Record<symbol, unknown>)[customInspect];
  if (typeof method !== "function" || method === inspect) return null;
  const depth = state.options.depth - state.around.length;
  const result: unknown = method.call(value, depth, { ...state.options, stylize: String }, inspect);
  if (result === value) return null;
  if (typeof result !== "string") return show(result, state);
  return result.replaceAll("\n", `\n${" ".repeat(state.indentation)}`);
}

/** How an object is shown: a word before it, brackets, and what stands in them. */
interface Form {
  prefix: string;
  open: string;
  close: string;
  /** Shown first; functions of the state, because they show values one level deeper. */
  items: (state: State) => string[];
  keys: (string | symbol)[];
  /** Shown without brackets when there are no members. */
  bare: boolean;
  /** Many short items are set in columns. */
  grouped: boolean;
}

function showFresh(value: object, state: State): string {
  const form = formOf(value, state);
  const isEmpty = form.bare && form.keys.length === 0;
  if (isEmpty) return form.prefix;
  if (state.around.length > state.options.depth) {
    return `[${Array.isArray(value) ? "Array" : (nameOfKind(value) ?? "Object: null prototype")}]`;
  }
  state.around.push(value);
  state.indentation += 2;
  let parts: string[];
  try {
    parts = form.items(state);
    for (const key of form.keys) parts.push(showMember(value, key, state));
  } finally {
    state.around.pop();
    state.indentation -= 2;
  }
  const reference = state.circular.get(value);
  const prefix = (reference === undefined ? "" : `<ref *${reference}> `) + (form.prefix === "" ? "" : `${form.prefix} `);
  if (parts.length === 0) return `${prefix}${form.open}${form.close}`;
  return join(parts, `${prefix}${form.open}`, form, state, value);
}

/** One line when it is short and holds few levels; else a line for each part or row of parts. */
function join(parts: readonly string[], start: string, form: Form, state: State, value: object): string {
  const { compact, breakLength } = state.options;
  const rows = form.grouped ? inColumns(parts, state) : parts;
  const levels = levelsBelow(value, Math.min(compact, state.options.depth - state.around.length));
  if (rows === parts && levels < compact && parts.every((part) => !part.includes("\n"))) {
    const length = parts.reduce((sum, part) => sum + part.length, parts.length * 2 + start.length);
    if (length + state.indentation + 10 <= breakLength) return `${start} ${parts.join(", ")} ${form.close}`;
  }
  const newLine = `\n${" ".repeat(state.indentation)}`;
  return `${start}${newLine}  ${rows.join(`,${newLine}  `)}${newLine}${form.close}`;
}

/** How deep the members of an object go, up to a limit. */
function levelsBelow(value: object, limit: number): number {
  if (limit <= 0) return 0;
  let most = 0;
  for (const key of Object.keys(value)) {
    const descriptor = Object.getOwnPropertyDescriptor(value, key);
    const member: unknown = descriptor?.value;
    if (typeof member !== "object" || member === null) continue;
    most = Math.max(most, 1 + levelsBelow(member, limit - 1));
  }
  return most;
}

/**
 * More than six short items are set in columns, with the measures that Node.js takes: rows about
 * as wide as the block is high, a character being two and a half times as high as it is wide.
 */
function inColumns(parts: readonly string[], state: State): readonly string[] {
  const { breakLength, compact } = state.options;
  const hasRest = parts[parts.length - 1]?.startsWith("... ") === true;
  const cells = hasRest ? parts.slice(0, -1) : parts;
  if (parts.length <= 6 || cells.some((part) => part.includes("\n"))) return parts;
  const longest = Math.max(...cells.map((part) => part.length));
  const width = longest + SEPARATOR;
  const total = cells.reduce((sum, part) => sum + part.length + SEPARATOR, 0);
  const isShort = width * 3 + state.indentation < breakLength && (total / width > 5 || longest <= 6);
  if (!isShort) return parts;
  const typical = Math.max(width - 3 - Math.sqrt(width - total / parts.length), 1);
  const columns = Math.min(
    Math.round(Math.sqrt(2.5 * typical * cells.length) / typical),
    Math.floor((breakLength - state.indentation) / width),
    compact * 4,
    15,
  );
  if (columns <= 1) return parts;
  const rows = alignCells(cells, columns);
  if (hasRest) rows.push(parts[parts.length - 1]!);
  return rows;
}

const SEPARATOR = 2;

/** Numbers stand at the right of their column, everything else at its left. */
function alignCells(cells: readonly string[], columns: number): string[] {
  const widths: number[] = [];
  for (let column = 0; column < columns; column++) {
    let width = 0;
    for (let index = column; index < cells.length; index += columns) width = Math.max(width, cells[index]!.length);
    widths.push(width);
  }
  const isNumeric = cells.every((cell) => /^-?(?:[\d.]+(?:e[+-]?\d+)?n?|Infinity)$|^NaN$/.test(cell));
  const rows: string[] = [];
  for (let start = 0; start < cells.length; start += columns) {
    const end = Math.min(start + columns, cells.length);
    let row = "";
    for (let index = start; index < end; index++) {
      const isLast = index === end - 1;
      const width = widths[index - start]!;
      const cell = cells[index]!;
      if (isNumeric) row += cell.padStart(width) + (isLast ? "" : ", ");
      else row += isLast ? cell : `${cell}, `.padEnd(width + SEPARATOR);
    }
    rows.push(row);
  }
  return rows;
}

function formOf(value: object, state: State): Form {
  const form: Form = {
    ...{ prefix: "", open: "{", close: "}", items: () => [], keys: keysOf(value, state), bare: false, grouped: false },
  };
  const kind = nameOfKind(value);
  if (Array.isArray(value)) {
    form.prefix = kind === "Array" ? "" : `${kind ?? "[Array: null prototype]"}(${value.length})`;
    form.open = "[";
    form.close = "]";
    form.grouped = true;
    form.keys = form.keys.filter((key) => typeof key === "symbol" || !isIndex(key));
    form.items = (inner) => arrayItems(value, inner);
  } else if (typeof value === "function") {
    form.prefix = describeFunction(value, kind);
    form.bare = true;
    // The members that every function has are not enumerable; those of classes are their own.
  } else if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    const array = value as Uint8Array;
    form.prefix = `${kind ?? "TypedArray"}(${array.length})`;
    form.open = "[";
    form.close = "]";
    form.grouped = true;
    form.keys = form.keys.filter((key) => typeof key === "symbol" || !isIndex(key));
    form.items = (inner) => {
      const most = Math.min(array.length, inner.options.maxArrayLength);
      const items: string[] = [];
      for (let index = 0; index < most; index++) items.push(show(array[index], inner));
      return withRest(items, array.length - most);
    };
  } else if (value instanceof Map) {
    form.prefix = `${kind ?? "Map"}(${value.size})`;
    form.items = (inner) => {
      const items: string[] = [];
      for (const [key, item] of value as Map<unknown, unknown>) {
        if (items.length >= inner.options.maxArrayLength) break;
        items.push(`${show(key, inner)} => ${show(item, inner)}`);
      }
      return withRest(items, value.size - items.length);
    };
  } else if (value instanceof Set) {
    form.prefix = `${kind ?? "Set"}(${value.size})`;
    form.items = (inner) => {
      const items: string[] = [];
      for (const item of value as Set<unknown>) {
        if (items.length >= inner.options.maxArrayLength) break;
        items.push(show(item, inner));
      }
      return withRest(items, value.size - items.length);
    };
  } else if (isErrorObject(value)) {
    form.prefix = describeErrorObject(value, state);
    form.bare = true;
    form.keys = form.keys.filter((key) => key !== "stack" && key !== "message");
    if (Object.hasOwn(value, "cause") && !form.keys.includes("cause")) form.keys.unshift("cause");
    if (value instanceof AggregateError && !form.keys.includes("errors")) form.keys.unshift("errors");
  } else if (value instanceof Date) {
    form.prefix = Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
    form.bare = true;
  } else if (value instanceof RegExp) {
    form.prefix = RegExp.prototype.toString.call(value);
    form.bare = true;
  } else if (value instanceof Promise) {
    form.prefix = kind ?? "Promise";
    form.items = (inner) => [promiseText(value, inner)];
  } else if (value instanceof WeakMap || value instanceof WeakSet) {
    form.prefix = kind ?? "WeakSet";
    form.items = () => ["<items unknown>"];
  } else if (value instanceof ArrayBuffer) {
    form.prefix = kind ?? "ArrayBuffer";
    form.items = () => [bytesText(value), `byteLength: ${value.byteLength}`];
  } else if (isBoxed(value)) {
    form.prefix = `[${kind}: ${show(value.valueOf(), state)}]`;
    form.bare = true;
    form.keys = form.keys.filter((key) => typeof key === "symbol" || !isIndex(key));
  } else {
    describeOther(value, kind, form);
    return form;
  }
  // A class of a program's own says what it is besides.
  const tag = tagOf(value);
  if (!form.bare && tag !== "" && tag !== kind && form.prefix !== "") form.prefix += ` [${tag}]`;
  return form;
}

const BOXES = [Number, String, Boolean, BigInt, Symbol];

function isBoxed(value: object): boolean {
  return BOXES.some((constructor) => value instanceof constructor);
}

function tagOf(value: object): string {
  const tag = (value as { [Symbol.toStringTag]?: unknown })[Symbol.toStringTag];
  return typeof tag === "string" ? tag : "";
}

function describeOther(value: object, kind: string | null, form: Form): void {
  const tag = tagOf(value);
  if (kind === null) form.prefix = "[Object: null prototype]";
  else if (kind !== "Object") form.prefix = kind;
  if (tag !== "" && tag !== kind) form.prefix = `${form.prefix || "Object"} [${tag}]`;
  // The attributes of an interface stand on its prototype.
  if (form.keys.length === 0) form.keys = attributesOf(value);
}

/** Reading these has consequences, or shows nothing. */
const NOT_SHOWN = ["constructor", "body", "signal", "isReloadNavigation", "isHistoryNavigation", "duplex"];

function attributesOf(value: object): string[] {
  const names: string[] = [];
  let prototype = Object.getPrototypeOf(value) as object | null;
  while (prototype !== null) {
    if (interfacePrototypes.has(prototype)) {
      const descriptors = Object.getOwnPropertyDescriptors(prototype);
      for (const name of Object.keys(descriptors)) {
        if (descriptors[name]!.get !== undefined && !NOT_SHOWN.includes(name) && !names.includes(name)) names.push(name);
      }
    }
    prototype = Object.getPrototypeOf(prototype) as object | null;
  }
  return names;
}

function keysOf(value: object, state: State): (string | symbol)[] {
  const keys: (string | symbol)[] = state.options.showHidden ? Object.getOwnPropertyNames(value) : Object.keys(value);
  if (state.options.sorted) keys.sort();
  for (const symbol of Object.getOwnPropertySymbols(value)) {
    if (state.options.showHidden || Object.prototype.propertyIsEnumerable.call(value, symbol)) keys.push(symbol);
  }
  return keys;
}

function isIndex(key: string): boolean {
  return /^(?:0|[1-9]\d{0,9})$/.test(key);
}

function arrayItems(array: readonly unknown[], state: State): string[] {
  const items: string[] = [];
  const most = state.options.maxArrayLength;
  let index = 0;
  for (; index < array.length && items.length < most; index++) {
    if (index in array) {
      items.push(showMemberValue(array, `${index}`, state));
      continue;
    }
    let holes = 1;
    while (index + holes < array.length && !(index + holes in array)) holes++;
    items.push(`<${holes} empty item${holes === 1 ? "" : "s"}>`);
    index += holes - 1;
  }
  return withRest(items, array.length - index);
}

function withRest(items: string[], left: number): string[] {
  if (left > 0) items.push(`... ${left} more item${left === 1 ? "" : "s"}`);
  return items;
}

function showMember(value: object, key: string | symbol, state: State): string {
  return `${showKey(value, key)}: ${showMemberValue(value, key, state)}`;
}

/** In brackets: symbols, and own members that are not enumerable. */
function showKey(value: object, key: string | symbol): string {
  if (typeof key === "symbol") return `[${key.toString()}]`;
  const descriptor = Object.getOwnPropertyDescriptor(value, key);
  if (descriptor !== undefined && !descriptor.enumerable) return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? key : quote(key);
}

function showMemberValue(value: object, key: string | symbol, state: State): string {
  const descriptor = Object.getOwnPropertyDescriptor(value, key);
  if (descriptor === undefined || "value" in descriptor) {
    return show((value as Record<string | symbol, unknown>)[key], state);
  }
  if (state.options.getters && descriptor.get !== undefined) {
    return `[Getter] ${show((value as Record<string | symbol, unknown>)[key], state)}`;
  }
  if (descriptor.get === undefined) return descriptor.set === undefined ? "undefined" : "[Setter]";
  return descriptor.set === undefined ? "[Getter]" : "[Getter/Setter]";
}

/** The name of the class of an object; null for an object without a prototype. */
function nameOfKind(value: object): string | null {
  let prototype: unknown = value;
  while (prototype !== null && prototype !== undefined) {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, "constructor");
    const constructor: unknown = descriptor?.value;
    if (typeof constructor === "function" && constructor.name !== "" && prototype !== value) return constructor.name;
    prototype = Object.getPrototypeOf(prototype);
  }
  return null;
}

function describeFunction(value: object, kind: string | null): string {
  const name = (value as { name?: unknown }).name;
  const source = Function.prototype.toString.call(value);
  if (/^class\b/.test(source)) {
    const parent = (Object.getPrototypeOf(value) as { name?: unknown } | null)?.name;
    const extension = typeof parent === "string" && parent !== "" ? ` extends ${parent}` : "";
    return `[class ${typeof name === "string" && name !== "" ? name : "(anonymous)"}${extension}]`;
  }
  const label = kind === null ? "Function (null prototype)" : kind;
  return typeof name === "string" && name !== "" ? `[${label}: ${name}]` : `[${label} (anonymous)]`;
}

function isErrorObject(value: object): value is Error {
  return value instanceof Error || isDomException(value);
}

/** The stack with the first line that engines put before it, or do not. */
function describeErrorObject(error: Error, state: State): string {
  let head: string;
  try {
    head = Error.prototype.toString.call(error);
  } catch {
    head = "Error";
  }
  const { stack } = error as { stack?: unknown };
  if (typeof stack !== "string" || stack === "") return `[${head}]`;
  const text = stack.startsWith(head) || /^\w*Error\b/.test(stack) ? stack : `${head}\n${stack}`;
  return text.trimEnd().replaceAll("\n", `\n${" ".repeat(state.indentation)}`);
}

function promiseText(promise: Promise<unknown>, state: State): string {
  const settled = host.promiseState(promise);
  if (settled === 0) return "<pending>";
  const result = show(host.promiseResult(promise), state);
  return settled === 1 ? result : `<rejected> ${result}`;
}

function bytesText(buffer: ArrayBuffer): string {
  const bytes = new Uint8Array(buffer);
  const most = Math.min(bytes.length, 50);
  let text = "";
  for (let index = 0; index < most; index++) text += `${index === 0 ? "" : " "}${hex(bytes[index]!, 2).toLowerCase()}`;
  if (bytes.length > most) text += ` ... ${bytes.length - most} more bytes`;
  return `[Uint8Contents]: <${text}>`;
}

/** Text with what printf-like directives in the first value ask for, and the rest behind it. */
// https://console.spec.whatwg.org/#formatter
export function format(values: readonly unknown[], options: Partial<InspectOptions> | undefined = undefined): string {
  const [first] = values;
  if (typeof first !== "string") return values.map((value) => plain(value, options)).join(" ");
  let next = 1;
  const text =
    values.length === 1
      ? first
      : first.replace(/%[sdifjoOc%]/g, (directive) => {
          if (directive === "%%") return "%";
          if (next >= values.length) return directive;
          return applyDirective(directive, values[next++], options);
        });
  return [text, ...values.slice(next).map((value) => plain(value, options))].join(" ");
}

function plain(value: unknown, options: Partial<InspectOptions> | undefined): string {
  return typeof value === "string" ? value : inspect(value, options);
}

function applyDirective(directive: string, value: unknown, options: Partial<InspectOptions> | undefined): string {
  switch (directive) {
    case "%s":
      if (typeof value === "string") return value;
      if (typeof value === "bigint") return `${value}n`;
      if (typeof value === "object" && value !== null && !hasOwnText(value)) {
        return inspect(value, { ...options, depth: 0, compact: 3 });
      }
      return Object.is(value, -0) ? "-0" : String(value);
    case "%d":
      if (typeof value === "bigint") return `${value}n`;
      return typeof value === "symbol" || typeof value === "object" ? "NaN" : inspect(Number(value));
    case "%i":
      if (typeof value === "bigint") return `${value}n`;
      return typeof value === "symbol" || typeof value === "object" ? "NaN" : inspect(Number.parseInt(`${value}`, 10));
    case "%f":
      return typeof value === "symbol" ? "NaN" : inspect(Number.parseFloat(`${value as string}`));
    case "%j":
      try {
        return JSON.stringify(value) ?? "undefined";
      } catch {
        return "[Circular]";
      }
    case "%o":
      return inspect(value, { ...options, showHidden: true, depth: 4 });
    case "%O":
      return inspect(value, options);
    default:
      // %c: styles mean nothing in a log.
      return "";
  }
}

/** Whether an object says itself what its text is, by a toString that is not built in. */
function hasOwnText(value: object): boolean {
  if (isErrorObject(value) || value instanceof Date) return true;
  const { toString } = value as { toString?: unknown };
  return typeof toString === "function" && toString !== Object.prototype.toString && !Array.isArray(value);
}
