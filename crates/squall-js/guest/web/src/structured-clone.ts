// structuredClone, in one pass: nothing is stored between reading a value and making its copy.
// https://html.spec.whatwg.org/#structuredserializeinternal

import { bytesOfBlob, isBlob, makeBlob } from "./blob.js";
import { isCryptoKey, keyParts, makeKey } from "./crypto/key.js";
import { DOMException, isDomException } from "./errors.js";
import { asFile, isFile } from "./file.js";
import { host } from "./host.js";
import { interfacePrototypes } from "./interface.js";
import { dictionary, requireArguments, sequence } from "./webidl.js";

/** The copies that were made, by what they are copies of. */
type Memory = Map<object, object>;

export function structuredClone(value: unknown, options: unknown = undefined): unknown {
  requireArguments(arguments.length, 1, "structuredClone");
  const given = dictionary(options, "The options of structuredClone")?.["transfer"];
  const buffers = given === undefined ? [] : checkTransfer(sequence(given, "transfer"));
  const copy = clone(value, new Map());
  // There is no other thread to give a buffer to: what is transferred is copied, and then gone.
  for (const buffer of buffers) {
    if (isDetached(buffer)) refuse("An ArrayBuffer that was detached meanwhile");
    host.transfer(buffer);
  }
  return copy;
}

function refuse(what: string): never {
  throw new DOMException(`${what} can not be cloned`, "DataCloneError");
}

function checkTransfer(list: readonly unknown[]): ArrayBuffer[] {
  const buffers: ArrayBuffer[] = [];
  for (const item of list) {
    if (!(item instanceof ArrayBuffer)) refuse("Something in the transfer list that is no ArrayBuffer");
    if (buffers.includes(item)) refuse("An ArrayBuffer that is transferred twice");
    if (isDetached(item)) refuse("A detached ArrayBuffer");
    buffers.push(item);
  }
  return buffers;
}

function isDetached(buffer: ArrayBuffer): boolean {
  if (buffer.byteLength > 0) return false;
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}

function clone(value: unknown, memory: Memory): unknown {
  if (typeof value === "object" && value !== null) return memory.get(value) ?? cloneObject(value, memory);
  if (typeof value === "symbol") refuse("A symbol");
  if (typeof value === "function") refuse("A function");
  return value;
}

function cloneObject(value: object, memory: Memory): object {
  if (Array.isArray(value)) {
    const copy = new Array(value.length) as unknown[];
    memory.set(value, copy);
    return cloneMembers(value, copy, memory);
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const copy = cloneBuiltIn(value, memory);
    if (copy !== null) return copy;
  }
  const copy = {};
  memory.set(value, copy);
  return cloneMembers(value, copy, memory);
}

function cloneMembers(value: object, copy: object, memory: Memory): object {
  for (const key of Object.keys(value)) {
    // A getter before may have removed it.
    if (!Object.hasOwn(value, key)) continue;
    const member = clone((value as Record<string, unknown>)[key], memory);
    if (key === "__proto__") {
      Object.defineProperty(copy, key, { value: member, writable: true, enumerable: true, configurable: true });
    } else {
      (copy as Record<string, unknown>)[key] = member;
    }
  }
  return copy;
}

const OPAQUE = [Promise, WeakMap, WeakSet, WeakRef, FinalizationRegistry, Symbol];
const GENERATOR = Object.getPrototypeOf(Object.getPrototypeOf((function* () {})())) as object;
const ASYNC_GENERATOR = Object.getPrototypeOf(Object.getPrototypeOf((async function* () {})())) as object;
const ITERATOR = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as object;

/** The copy of an object with more to it than its members; null for all others. */
function cloneBuiltIn(value: object, memory: Memory): object | null {
  if (value instanceof Date) return remember(value, new Date(value.getTime()), memory);
  if (value instanceof RegExp) return remember(value, new RegExp(value.source, value.flags), memory);
  if (value instanceof Boolean || value instanceof Number || value instanceof String || value instanceof BigInt) {
    return remember(value, Object(value.valueOf()) as object, memory);
  }
  if (value instanceof ArrayBuffer) return cloneBuffer(value, memory);
  if (ArrayBuffer.isView(value)) return cloneView(value, memory);
  if (value instanceof Map) {
    const copy = new Map<unknown, unknown>();
    memory.set(value, copy);
    for (const [key, item] of [...(value as Map<unknown, unknown>)]) copy.set(clone(key, memory), clone(item, memory));
    return copy;
  }
  if (value instanceof Set) {
    const copy = new Set<unknown>();
    memory.set(value, copy);
    for (const item of [...(value as Set<unknown>)]) copy.add(clone(item, memory));
    return copy;
  }
  if (value instanceof Error && !isDomException(value)) return cloneError(value, memory);
  return clonePlatformObject(value, memory);
}

function remember(value: object, copy: object, memory: Memory): object {
  memory.set(value, copy);
  return copy;
}

function cloneBuffer(buffer: ArrayBuffer, memory: Memory): ArrayBuffer {
  if (isDetached(buffer)) refuse("A detached ArrayBuffer");
  const { resizable, maxByteLength } = buffer as { resizable?: boolean; maxByteLength?: number };
  let copy: ArrayBuffer;
  if (resizable === true) {
    copy = new (ArrayBuffer as new (length: number, options: object) => ArrayBuffer)(buffer.byteLength, { maxByteLength });
    new Uint8Array(copy).set(new Uint8Array(buffer));
  } else {
    copy = buffer.slice(0);
  }
  memory.set(buffer, copy);
  return copy;
}

const VIEWS: Record<string, new (buffer: ArrayBuffer, offset: number, length: number) => ArrayBufferView> = {
  ...{ Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array },
  ...{ Float32Array, Float64Array, BigInt64Array, BigUint64Array },
};
const viewKind = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Int8Array.prototype) as object, Symbol.toStringTag)!
  .get!;
const { Float16Array } = globalThis as { Float16Array?: (typeof VIEWS)[string] };
if (Float16Array !== undefined) VIEWS["Float16Array"] = Float16Array;

function cloneView(view: ArrayBufferView, memory: Memory): object {
  const shared = !(view.buffer instanceof ArrayBuffer);
  if (shared) refuse("A view of shared memory");
  const buffer = (memory.get(view.buffer) ?? cloneBuffer(view.buffer as ArrayBuffer, memory)) as ArrayBuffer;
  const kind = viewKind.call(view) as string | undefined;
  if (kind === undefined) return remember(view, new DataView(buffer, view.byteOffset, view.byteLength), memory);
  // A class of a program's own, such as Buffer, becomes the typed array below it.
  const length = (view as Uint8Array).length;
  return remember(view, new VIEWS[kind]!(buffer, view.byteOffset, length), memory);
}

const ERRORS: Record<string, ErrorConstructor> = {
  ...{ Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError },
};

function cloneError(error: Error, memory: Memory): object {
  const name = `${error.name}`;
  const copy = new (Object.hasOwn(ERRORS, name) ? ERRORS[name]! : Error)();
  memory.set(error, copy);
  const message = Object.getOwnPropertyDescriptor(error, "message");
  if (message !== undefined && "value" in message) defineHidden(copy, "message", `${message.value}`);
  if (typeof error.stack === "string") defineHidden(copy, "stack", error.stack);
  if (Object.hasOwn(error, "cause")) defineHidden(copy, "cause", clone(error.cause, memory));
  return copy;
}

function defineHidden(target: object, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: false, configurable: true });
}

function clonePlatformObject(value: object, memory: Memory): object | null {
  if (isFile(value)) return remember(value, asFile(value, value.name), memory);
  if (isBlob(value)) return remember(value, makeBlob(bytesOfBlob(value), value.type), memory);
  if (isDomException(value)) {
    const copy = new DOMException(value.message, value.name);
    const { stack } = value as { stack?: unknown };
    if (typeof stack === "string") defineHidden(copy, "stack", stack);
    return remember(value, copy, memory);
  }
  if (isCryptoKey(value)) return remember(value, makeKey({ ...keyParts(value) }), memory);
  const isOpaque =
    OPAQUE.some((constructor) => value instanceof constructor) ||
    [GENERATOR, ASYNC_GENERATOR, ITERATOR].some((prototype) => Object.prototype.isPrototypeOf.call(prototype, value)) ||
    Object.prototype.toString.call(value) === "[object SharedArrayBuffer]";
  if (isOpaque || isPlatformObject(value)) refuse(`An object of the kind ${nameOf(value)}`);
  return null;
}

function isPlatformObject(value: object): boolean {
  let prototype = Object.getPrototypeOf(value) as object | null;
  while (prototype !== null) {
    if (interfacePrototypes.has(prototype)) return true;
    prototype = Object.getPrototypeOf(prototype) as object | null;
  }
  return false;
}

function nameOf(value: object): string {
  const { constructor } = value;
  return typeof constructor === "function" && constructor.name !== "" ? constructor.name : "Object";
}
