// readInt32LE and its many relatives, put on the prototype of Buffer.

type Reader = (view: DataView, offset: number, littleEndian: boolean) => number | bigint;
type Writer = (view: DataView, offset: number, value: never, littleEndian: boolean) => void;

function outOfRange(name: string, range: string, value: unknown): RangeError {
  const text = `The value of "${name}" is out of range. It must be ${range}. Received ${String(value)}`;
  return Object.assign(new RangeError(text), { code: "ERR_OUT_OF_RANGE" });
}

function viewAt(bytes: Uint8Array, offset: unknown, size: number): DataView {
  if (typeof offset !== "number") {
    const error = new TypeError('The "offset" argument must be of type number');
    throw Object.assign(error, { code: "ERR_INVALID_ARG_TYPE" });
  }
  if (!Number.isInteger(offset)) throw outOfRange("offset", "an integer", offset);
  if (bytes.length < size) {
    const error = new RangeError("Attempt to access memory outside buffer bounds");
    throw Object.assign(error, { code: "ERR_BUFFER_OUT_OF_BOUNDS" });
  }
  if (offset < 0 || offset + size > bytes.length) {
    throw outOfRange("offset", `>= 0 and <= ${bytes.length - size}`, offset);
  }
  return new DataView(bytes.buffer, bytes.byteOffset + offset, size);
}

interface Kind {
  readonly name: string;
  readonly size: number;
  readonly read: Reader;
  readonly write: Writer;
  /** null for floating-point numbers, which take any value. */
  readonly range: readonly [number | bigint, number | bigint] | null;
}

const { prototype: view } = DataView;
const reader = (name: keyof DataView): Reader => {
  const method = view[name] as unknown as (offset: number, littleEndian: boolean) => number | bigint;
  return (target, offset, littleEndian) => method.call(target, offset, littleEndian);
};
const writer = (name: keyof DataView): Writer => {
  const method = view[name] as unknown as (offset: number, value: never, littleEndian: boolean) => void;
  return (target, offset, value, littleEndian) => method.call(target, offset, value, littleEndian);
};
const kind = (name: string, size: number, type: string, range: Kind["range"]): Kind => ({
  ...{ name, size, range, read: reader(`get${type}` as keyof DataView), write: writer(`set${type}` as keyof DataView) },
});

const KINDS: readonly Kind[] = [
  kind("UInt8", 1, "Uint8", [0, 0xff]),
  kind("Int8", 1, "Int8", [-0x80, 0x7f]),
  kind("UInt16", 2, "Uint16", [0, 0xffff]),
  kind("Int16", 2, "Int16", [-0x8000, 0x7fff]),
  kind("UInt32", 4, "Uint32", [0, 0xffffffff]),
  kind("Int32", 4, "Int32", [-0x80000000, 0x7fffffff]),
  kind("BigUInt64", 8, "BigUint64", [0n, 2n ** 64n - 1n]),
  kind("BigInt64", 8, "BigInt64", [-(2n ** 63n), 2n ** 63n - 1n]),
  kind("Float", 4, "Float32", null),
  kind("Double", 8, "Float64", null),
];

function checkValue(value: unknown, range: Kind["range"]): number | bigint {
  if (range === null) return Number(value);
  if (typeof range[0] === "bigint") {
    if (typeof value !== "bigint") {
      throw Object.assign(new TypeError('The "value" argument must be of type bigint'), { code: "ERR_INVALID_ARG_TYPE" });
    }
  }
  const number = typeof range[0] === "bigint" ? (value as bigint) : Number(value);
  if (number < range[0] || number > range[1]) throw outOfRange("value", `>= ${range[0]} and <= ${range[1]}`, value);
  return number;
}

/** An integer of up to six bytes. */
function readInteger(bytes: Uint8Array, offset: unknown, size: number, littleEndian: boolean, signed: boolean): number {
  checkSize(size);
  const target = viewAt(bytes, offset, size);
  let value = 0;
  for (let index = 0; index < size; index++) {
    value = value * 0x100 + target.getUint8(littleEndian ? size - 1 - index : index);
  }
  const limit = 2 ** (8 * size - 1);
  return signed && value >= limit ? value - 2 * limit : value;
}

function writeInteger(
  bytes: Uint8Array,
  value: unknown,
  offset: unknown,
  size: number,
  littleEndian: boolean,
  signed: boolean,
): number {
  checkSize(size);
  const limit = 2 ** (8 * size - (signed ? 1 : 0));
  let left = checkValue(value, [signed ? -limit : 0, limit - 1]) as number;
  const target = viewAt(bytes, offset, size);
  if (left < 0) left += 2 ** (8 * size);
  for (let index = 0; index < size; index++) {
    target.setUint8(littleEndian ? index : size - 1 - index, left % 0x100);
    left = Math.floor(left / 0x100);
  }
  return (offset as number) + size;
}

function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > 6) throw outOfRange("byteLength", ">= 1 and <= 6", size);
}

/** Node.js has each name with "UInt" also with "Uint". */
function define(prototype: object, name: string, method: (...values: never[]) => unknown): void {
  for (const alias of new Set([name, name.replace("UInt", "Uint")])) {
    Object.defineProperty(prototype, alias, { value: method, writable: true, configurable: true });
  }
}

export function defineNumberMethods(prototype: object): void {
  for (const { name, size, read, write, range } of KINDS) {
    for (const order of size === 1 ? [""] : ["LE", "BE"]) {
      const littleEndian = order === "LE";
      define(prototype, `read${name}${order}`, function (this: Uint8Array, offset: unknown = 0) {
        return read(viewAt(this, offset, size), 0, littleEndian);
      });
      define(prototype, `write${name}${order}`, function (this: Uint8Array, value: unknown, offset: unknown = 0) {
        const checked = checkValue(value, range);
        write(viewAt(this, offset, size), 0, checked as never, littleEndian);
        return (offset as number) + size;
      });
    }
  }
  for (const order of ["LE", "BE"]) {
    for (const name of ["UInt", "Int"]) {
      const littleEndian = order === "LE";
      const signed = name === "Int";
      define(prototype, `read${name}${order}`, function (this: Uint8Array, offset: unknown, size: number) {
        return readInteger(this, offset, size, littleEndian, signed);
      });
      define(prototype, `write${name}${order}`, function (this: Uint8Array, value: unknown, offset: unknown, size: number) {
        return writeInteger(this, value, offset, size, littleEndian, signed);
      });
    }
  }
}
