// node:buffer: Buffer, a Uint8Array with more methods.

import { base64Functions } from "../base64.js";
import { Blob, concatenate, viewBytes } from "../blob.js";
import { File } from "../file.js";
import { host } from "../host.js";
import { customInspect } from "../inspect.js";
import { isObject } from "../webidl.js";
import { byteLength, decode, encode, encodingOf, isEncoding } from "./buffer-encoding.js";
import { defineNumberMethods } from "./buffer-numbers.js";

const MAX_LENGTH = 2 ** 31 - 1;
let inspectMaxBytes = 50;

function invalidType(name: string, expected: string, value: unknown): TypeError {
  const received = value === null ? "null" : typeof value;
  const text = `The "${name}" argument must be ${expected}. Received ${received}`;
  return Object.assign(new TypeError(text), { code: "ERR_INVALID_ARG_TYPE" });
}

function checkLength(size: unknown): number {
  if (typeof size !== "number") throw invalidType("size", "of type number", size);
  if (!(size >= 0 && size <= MAX_LENGTH)) {
    const text = `The value of "size" is out of range. It must be >= 0 && <= ${MAX_LENGTH}. Received ${size}`;
    throw Object.assign(new RangeError(text), { code: "ERR_OUT_OF_RANGE" });
  }
  return size;
}

function checkBytes(value: unknown, name: string): Uint8Array {
  if (!(value instanceof Uint8Array)) throw invalidType(name, "an instance of Buffer or Uint8Array", value);
  return value;
}

/** An offset counted from the start, within the length. */
function limited(value: unknown, fallback: number, length: number): number {
  const offset = value === undefined ? fallback : Math.trunc(Number(value)) || 0;
  return Math.min(Math.max(offset, 0), length);
}

/** The class behind Buffer, whose constructor is that of Uint8Array. */
class Bytes extends Uint8Array {
  override toString(encoding: unknown = undefined, start: unknown = undefined, end: unknown = undefined): string {
    if (arguments.length === 0) return host.utf8Decode(this, false)!;
    const from = limited(start, 0, this.length);
    const to = limited(end, this.length, this.length);
    if (to <= from) return "";
    return decode(from === 0 && to === this.length ? this : super.subarray(from, to), encodingOf(encoding));
  }

  toJSON(): { type: string; data: number[] } {
    return { type: "Buffer", data: Array.from(this) };
  }

  equals(other: unknown): boolean {
    return this === other || compareBytes(this, checkBytes(other, "otherBuffer")) === 0;
  }

  compare(
    target: unknown,
    targetStart: unknown = undefined,
    targetEnd: unknown = undefined,
    start: unknown = undefined,
    end: unknown = undefined,
  ): number {
    const other = checkBytes(target, "target");
    const theirs = other.subarray(limited(targetStart, 0, other.length), limited(targetEnd, other.length, other.length));
    return compareBytes(super.subarray(limited(start, 0, this.length), limited(end, this.length, this.length)), theirs);
  }

  copy(target: Uint8Array, targetStart: unknown = 0, start: unknown = 0, end: unknown = undefined): number {
    const at = limited(targetStart, 0, target.length);
    const from = limited(start, 0, this.length);
    const to = Math.min(limited(end, this.length, this.length), from + target.length - at);
    if (to <= from) return 0;
    target.set(super.subarray(from, to), at);
    return to - from;
  }

  /** A view, unlike the method of Uint8Array. */
  override slice(start: unknown = undefined, end: unknown = undefined): never {
    return this.subarray(start as number, end as number) as never;
  }

  write(text: string, offset: unknown = undefined, length: unknown = undefined, encoding: unknown = undefined): number {
    if (typeof text !== "string") throw invalidType("string", "of type string", text);
    if (typeof offset === "string") [offset, encoding] = [undefined, offset];
    else if (typeof length === "string") [length, encoding] = [undefined, length];
    const at = limited(offset, 0, this.length);
    const most = Math.min(length === undefined ? this.length : Number(length), this.length - at);
    const kind = encodingOf(encoding);
    let bytes = encode(text, kind);
    if (bytes.length > most) bytes = bytes.subarray(0, wholeCharacters(bytes, most, kind));
    this.set(bytes, at);
    return bytes.length;
  }

  override fill(value: unknown, start: unknown = undefined, end: unknown = undefined, encoding: unknown = undefined): this {
    if (typeof start === "string") [start, encoding] = [undefined, start];
    else if (typeof end === "string") [end, encoding] = [undefined, end];
    const from = limited(start, 0, this.length);
    const to = limited(end, this.length, this.length);
    if (typeof value !== "string" && !(value instanceof Uint8Array)) {
      super.fill(typeof value === "boolean" ? Number(value) : (Number(value) || 0) & 255, from, to);
      return this;
    }
    const pattern = typeof value === "string" ? encode(value, encodingOf(encoding)) : value;
    if (pattern.length === 0) {
      super.fill(0, from, to);
      return this;
    }
    for (let index = from; index < to; index += pattern.length) {
      this.set(index + pattern.length <= to ? pattern : pattern.subarray(0, to - index), index);
    }
    return this;
  }

  override indexOf(value: unknown, offset: unknown = undefined, encoding: unknown = undefined): number {
    return search(this, value, offset, encoding, true);
  }

  override lastIndexOf(value: unknown, offset: unknown = undefined, encoding: unknown = undefined): number {
    return search(this, value, offset, encoding, false);
  }

  override includes(value: unknown, offset: unknown = undefined, encoding: unknown = undefined): boolean {
    return search(this, value, offset, encoding, true) >= 0;
  }

  swap16(): this {
    return swap(this, 2);
  }

  swap32(): this {
    return swap(this, 4);
  }

  swap64(): this {
    return swap(this, 8);
  }

  get parent(): ArrayBufferLike {
    return this.buffer;
  }

  get offset(): number {
    return this.byteOffset;
  }

  [customInspect](): string {
    const shown = Array.from(super.subarray(0, inspectMaxBytes), (byte) => byte.toString(16).padStart(2, "0"));
    const left = this.length - shown.length;
    const rest = left > 0 ? ` ... ${left} more byte${left === 1 ? "" : "s"}` : "";
    return `<Buffer${shown.length > 0 ? " " : ""}${shown.join(" ")}${rest}>`;
  }
}

export type Buffer = Bytes;

/** The longest prefix of at most `most` bytes that ends with a whole character. */
function wholeCharacters(bytes: Uint8Array, most: number, encoding: string): number {
  if (encoding === "utf16le") return most & ~1;
  if (encoding !== "utf8") return most;
  while (most > 0 && (bytes[most]! & 0xc0) === 0x80) most--;
  return most;
}

function compareBytes(first: Uint8Array, second: Uint8Array): number {
  const length = Math.min(first.length, second.length);
  for (let index = 0; index < length; index++) {
    if (first[index] !== second[index]) return first[index]! < second[index]! ? -1 : 1;
  }
  return Math.sign(first.length - second.length);
}

function search(bytes: Uint8Array, value: unknown, offset: unknown, encoding: unknown, forward: boolean): number {
  if (typeof offset === "string") [offset, encoding] = [undefined, offset];
  let start = offset === undefined ? (forward ? 0 : bytes.length) : Math.trunc(Number(offset));
  if (Number.isNaN(start)) start = forward ? 0 : bytes.length;
  if (start < 0) start += bytes.length;
  if (typeof value === "number") {
    const byte = value & 255;
    if (forward) return Uint8Array.prototype.indexOf.call(bytes, byte, Math.max(start, 0));
    return start < 0 ? -1 : Uint8Array.prototype.lastIndexOf.call(bytes, byte, start);
  }
  if (typeof value !== "string" && !(value instanceof Uint8Array)) {
    throw invalidType("value", "one of type number or string or an instance of Buffer or Uint8Array", value);
  }
  const pattern = typeof value === "string" ? encode(value, encodingOf(encoding)) : value;
  const last = bytes.length - pattern.length;
  if (forward) {
    if (pattern.length === 0) return Math.min(Math.max(start, 0), bytes.length);
    for (let at = Math.max(start, 0); at <= last; at++) {
      at = Uint8Array.prototype.indexOf.call(bytes, pattern[0]!, at);
      if (at < 0 || at > last) return -1;
      if (isAt(bytes, pattern, at)) return at;
    }
    return -1;
  }
  for (let at = Math.min(start, last); at >= 0; at--) if (isAt(bytes, pattern, at)) return at;
  return -1;
}

function isAt(bytes: Uint8Array, pattern: Uint8Array, at: number): boolean {
  for (let index = 0; index < pattern.length; index++) if (bytes[at + index] !== pattern[index]) return false;
  return true;
}

function swap<T extends Uint8Array>(bytes: T, size: number): T {
  if (bytes.length % size !== 0) {
    const error = new RangeError(`Buffer size must be a multiple of ${size * 8}-bits`);
    throw Object.assign(error, { code: "ERR_INVALID_BUFFER_SIZE" });
  }
  for (let index = 0; index < bytes.length; index += size) bytes.subarray(index, index + size).reverse();
  return bytes;
}

defineNumberMethods(Bytes.prototype);
for (const [name, encoding] of Object.entries({
  ...{ utf8: "utf8", latin1: "latin1", ascii: "ascii", base64: "base64", base64url: "base64url", hex: "hex", ucs2: "utf16le" },
})) {
  const slice = function (this: Bytes, start: unknown, end: unknown): string {
    return this.toString(encoding, start, end);
  };
  const write = function (this: Bytes, text: string, offset: unknown, length: unknown): number {
    return this.write(text, offset, length, encoding);
  };
  Object.defineProperty(Bytes.prototype, `${name}Slice`, { value: slice, writable: true, configurable: true });
  Object.defineProperty(Bytes.prototype, `${name}Write`, { value: write, writable: true, configurable: true });
}
Object.defineProperty(Bytes.prototype, "toLocaleString", { value: Bytes.prototype.toString, configurable: true });

/** A Buffer over the memory of bytes that are ours. */
function adopt(bytes: Uint8Array): Bytes {
  return new Bytes(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.length);
}

function from(value: unknown, encodingOrOffset: unknown = undefined, length: unknown = undefined): Bytes {
  if (typeof value === "string") return adopt(encode(value, encodingOf(encodingOrOffset)));
  if (!isObject(value)) throw invalidType("first argument", "of type string or an instance of Buffer, ArrayBuffer, or Array", value);
  if (ArrayBuffer.isView(value)) return new Bytes(value as Uint8Array);
  if (viewBytes(value) !== null || Object.prototype.toString.call(value) === "[object SharedArrayBuffer]") {
    const offset = encodingOrOffset === undefined ? 0 : Number(encodingOrOffset) || 0;
    return new Bytes(value as ArrayBuffer, offset, length === undefined ? undefined : Math.max(Number(length) || 0, 0));
  }
  const given = value as { valueOf?: () => unknown; length?: unknown; type?: unknown; data?: unknown };
  const primitive = given.valueOf?.();
  if (primitive !== value && primitive !== null && primitive !== undefined) return from(primitive, encodingOrOffset, length);
  if (given.type === "Buffer" && Array.isArray(given.data)) return new Bytes(given.data as number[]);
  if (typeof given.length === "number" || Array.isArray(value)) return new Bytes(Array.from(value as ArrayLike<number>));
  const convert = (value as { [Symbol.toPrimitive]?: (hint: string) => unknown })[Symbol.toPrimitive];
  if (typeof convert === "function") return from(convert.call(value, "string"), encodingOrOffset);
  throw invalidType("first argument", "of type string or an instance of Buffer, ArrayBuffer, or Array", value);
}

function alloc(size: unknown, fill: unknown = undefined, encoding: unknown = undefined): Bytes {
  const bytes = new Bytes(checkLength(size));
  return fill === undefined || fill === 0 ? bytes : bytes.fill(fill, encoding);
}

const members = {
  from,
  alloc,
  allocUnsafe: (size: unknown): Bytes => new Bytes(checkLength(size)),
  allocUnsafeSlow: (size: unknown): Bytes => new Bytes(checkLength(size)),
  of: (...values: number[]): Bytes => new Bytes(values),
  isBuffer: (value: unknown): boolean => value instanceof Bytes,
  isEncoding,
  byteLength(value: unknown, encoding: unknown = undefined): number {
    if (typeof value === "string") return byteLength(value, isEncoding(encoding) ? encodingOf(encoding) : "utf8");
    const bytes = isObject(value) ? viewBytes(value) : null;
    if (bytes === null) throw invalidType("string", "of type string or an instance of Buffer or ArrayBuffer", value);
    return bytes.length;
  },
  compare: (first: unknown, second: unknown): number => compareBytes(checkBytes(first, "buf1"), checkBytes(second, "buf2")),
  concat(list: readonly unknown[], length: unknown = undefined): Bytes {
    if (!Array.isArray(list)) throw invalidType("list", "an instance of Array", list);
    const pieces = list.map((item, index) => checkBytes(item, `list[${index}]`));
    const total = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const whole = adopt(concatenate(pieces, total));
    if (length === undefined || length === total) return whole;
    const cut = new Bytes(checkLength(length));
    cut.set(whole.subarray(0, cut.length));
    return cut;
  },
  copyBytesFrom(view: unknown, offset: number = 0, length: number | undefined = undefined): Bytes {
    if (kindOf.call(view) === undefined) throw invalidType("view", "an instance of TypedArray", view);
    const array = view as Uint8Array;
    const part = array.subarray(offset, length === undefined ? array.length : offset + length);
    return adopt(new Uint8Array(part.buffer, part.byteOffset, part.byteLength).slice());
  },
  poolSize: 0,
};
const kindOf = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype) as object, Symbol.toStringTag)!
  .get!;

/** Called with or without `new`, as old programs do. */
function makeBuffer(value: unknown, encodingOrOffset: unknown, length: unknown): Bytes {
  return typeof value === "number" ? alloc(value) : from(value, encodingOrOffset, length);
}

export const Buffer = Object.assign(makeBuffer, members);
Object.defineProperty(Buffer, "name", { value: "Buffer", configurable: true });
Object.defineProperty(Buffer, "prototype", { value: Bytes.prototype, writable: false });
Object.defineProperty(Buffer, Symbol.species, { get: () => Bytes, configurable: true });
Object.setPrototypeOf(Buffer, Uint8Array);
Object.defineProperty(Bytes.prototype, "constructor", { value: Buffer, writable: true, configurable: true });

const exports = {
  ...{ Buffer, SlowBuffer: Buffer, Blob, File, ...base64Functions },
  constants: { MAX_LENGTH, MAX_STRING_LENGTH: 2 ** 29 - 24 },
  kMaxLength: MAX_LENGTH,
  kStringMaxLength: 2 ** 29 - 24,
  isAscii: (value: object): boolean => viewBytes(value)!.every((byte) => byte < 0x80),
  isUtf8: (value: object): boolean => host.utf8Decode(viewBytes(value)!, true) !== null,
  transcode: (source: Uint8Array, fromEncoding: string, toEncoding: string): Bytes =>
    adopt(encode(decode(source, encodingOf(fromEncoding)), encodingOf(toEncoding))),
  get INSPECT_MAX_BYTES(): number {
    return inspectMaxBytes;
  },
  set INSPECT_MAX_BYTES(count: number) {
    inspectMaxBytes = count;
  },
};
host.registerModule("node:buffer", { ...exports, default: exports });
