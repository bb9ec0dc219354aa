// Conversions of arguments to Web IDL types. Each takes what a program passed and gives what the
// type's conversion gives, or throws its TypeError.
// https://webidl.spec.whatwg.org/#js-type-mapping

/** Throws unless a call had as many arguments as the operation requires. */
export function requireArguments(given: number, least: number, what: string): void {
  if (given >= least) return;
  throw new TypeError(`${what} needs ${least === 1 ? "an argument" : `${least} arguments`}, got ${given}`);
}

export function domString(value: unknown): string {
  return typeof value === "string" ? value : `${value}`;
}

export function usvString(value: unknown): string {
  return (typeof value === "string" ? value : `${value}`).toWellFormed();
}

/** A string of which each character stands for a byte. */
export function byteString(value: unknown): string {
  const text = domString(value);
  for (let index = 0; index < text.length; index++) {
    if (text.charCodeAt(index) > 0xff) {
      throw new TypeError(`The character at ${index} of ${JSON.stringify(text)} is no byte`);
    }
  }
  return text;
}

export function enumeration(value: unknown, values: readonly string[], name: string): string {
  const text = domString(value);
  if (!values.includes(text)) throw new TypeError(`${JSON.stringify(text)} is no value for ${name}`);
  return text;
}

/** A double that is a number: neither infinite nor NaN. */
export function double(value: unknown, name: string): number {
  const number = Number(value);
  if (!Number.isFinite(number)) throw new TypeError(`${name} is not a finite number`);
  return number;
}

/** long: the low 32 bits, signed. */
export function long(value: unknown): number {
  return Number(value) | 0;
}

/** unsigned short: the low 16 bits. */
export function unsignedShort(value: unknown): number {
  return Number(value) & 0xffff;
}

/** unsigned long: the low 32 bits. */
export function unsignedLong(value: unknown): number {
  return Number(value) >>> 0;
}

/** [EnforceRange] of an integer type with these limits. */
export function enforceRange(value: unknown, least: number, largest: number, name: string): number {
  const number = Math.trunc(Number(value));
  if (!(number >= least && number <= largest)) throw new TypeError(`${name} is out of range`);
  // Not -0.
  return number + 0;
}

/** [EnforceRange] unsigned long long: integers that a double holds exactly. */
export function enforceUnsignedLongLong(value: unknown, name: string): number {
  return enforceRange(value, 0, Number.MAX_SAFE_INTEGER, name);
}

/** [Clamp] of an integer type with these limits: halves go to the even neighbour. */
export function clamp(value: unknown, least: number, largest: number): number {
  const number = Number(value);
  if (Number.isNaN(number)) return 0;
  const limited = Math.min(Math.max(number, least), largest);
  const below = Math.floor(limited);
  const rest = limited - below;
  if (rest < 0.5 || (rest === 0.5 && below % 2 === 0)) return below + 0;
  return below + 1;
}

export function isObject(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

/** A dictionary whose members the caller reads; null where nothing was given. */
export function dictionary(value: unknown, what: string): Record<string, unknown> | null {
  if (value === undefined || value === null) return null;
  if (!isObject(value)) throw new TypeError(`${what} is not an object`);
  return value as Record<string, unknown>;
}

/** sequence<T>: the items, each converted as it comes, in an array of our own. */
// https://webidl.spec.whatwg.org/#create-sequence-from-iterable
export function sequence<T = unknown>(
  value: unknown,
  what: string,
  convert: (item: unknown) => T = (item) => item as T,
): T[] {
  const method = isObject(value) ? (value as Partial<Iterable<unknown>>)[Symbol.iterator] : undefined;
  if (typeof method !== "function") throw new TypeError(`${what} is not a sequence`);
  const iterator = method.call(value as Iterable<unknown>);
  const items: T[] = [];
  for (;;) {
    const result = iterator.next() as unknown;
    if (!isObject(result)) throw new TypeError(`The iterator of ${what} gave something that is no object`);
    if ((result as IteratorResult<unknown>).done) return items;
    items.push(convert((result as IteratorResult<unknown>).value));
  }
}

export type AnyFunction = (...values: unknown[]) => unknown;

export function callbackFunction(value: unknown, what: string): AnyFunction {
  if (typeof value !== "function") throw new TypeError(`${what} is not a function`);
  return value as AnyFunction;
}
