// util.types: which built-in kind a value is of, whatever its prototype says where that can be known.

import { isCryptoKey } from "../crypto/key.js";

type Check = (value: unknown) => boolean;

/** A check by an accessor or method that throws for everything else. */
function byBrand(prototype: object, member: string | symbol): Check {
  const descriptor = Object.getOwnPropertyDescriptor(prototype, member)!;
  const probe = (descriptor.get ?? descriptor.value) as (this: unknown) => unknown;
  return (value) => {
    if (typeof value !== "object" || value === null) return false;
    try {
      probe.call(value);
      return true;
    } catch {
      return false;
    }
  };
}

function byTag(tag: string): Check {
  return (value) => typeof value === "object" && value !== null && Object.prototype.toString.call(value) === `[object ${tag}]`;
}

const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
const kindOf = Object.getOwnPropertyDescriptor(typedArrayPrototype, Symbol.toStringTag)!.get!;
const isKind =
  (kind: string): Check =>
  (value) =>
    kindOf.call(value) === kind;

const isArrayBuffer = byBrand(ArrayBuffer.prototype, "byteLength");
const isSharedArrayBuffer = byTag("SharedArrayBuffer");
const isBigIntObject: Check = (value) => value instanceof BigInt;
const isBooleanObject = byBrand(Boolean.prototype, "valueOf");
const isNumberObject = byBrand(Number.prototype, "valueOf");
const isStringObject = byBrand(String.prototype, "valueOf");
const isSymbolObject: Check = (value) => typeof value === "object" && value instanceof Symbol;

export const types = {
  ...{ isArrayBuffer, isSharedArrayBuffer, isBigIntObject, isBooleanObject, isNumberObject, isStringObject },
  isSymbolObject,
  isAnyArrayBuffer: (value: unknown): boolean => isArrayBuffer(value) || isSharedArrayBuffer(value),
  isArgumentsObject: byTag("Arguments"),
  isArrayBufferView: (value: unknown): boolean => ArrayBuffer.isView(value),
  isAsyncFunction: (value: unknown): boolean =>
    typeof value === "function" && Object.prototype.toString.call(value).startsWith("[object Async"),
  isBigInt64Array: isKind("BigInt64Array"),
  isBigUint64Array: isKind("BigUint64Array"),
  isBoxedPrimitive: (value: unknown): boolean =>
    [isBigIntObject, isBooleanObject, isNumberObject, isStringObject, isSymbolObject].some((check) => check(value)),
  isCryptoKey,
  isDataView: (value: unknown): boolean => ArrayBuffer.isView(value) && kindOf.call(value) === undefined,
  isDate: byBrand(Date.prototype, "getTime"),
  isFloat32Array: isKind("Float32Array"),
  isFloat64Array: isKind("Float64Array"),
  isGeneratorFunction: (value: unknown): boolean =>
    typeof value === "function" && Object.prototype.toString.call(value).endsWith("GeneratorFunction]"),
  isGeneratorObject: byTag("Generator"),
  isInt16Array: isKind("Int16Array"),
  isInt32Array: isKind("Int32Array"),
  isInt8Array: isKind("Int8Array"),
  isMap: byBrand(Map.prototype, "size"),
  isMapIterator: byTag("Map Iterator"),
  isModuleNamespaceObject: byTag("Module"),
  isNativeError: (value: unknown): boolean => value instanceof Error,
  isPromise: (value: unknown): boolean => value instanceof Promise,
  isRegExp: (value: unknown): boolean => value instanceof RegExp,
  isSet: byBrand(Set.prototype, "size"),
  isSetIterator: byTag("Set Iterator"),
  isTypedArray: (value: unknown): boolean => kindOf.call(value) !== undefined,
  isUint16Array: isKind("Uint16Array"),
  isUint32Array: isKind("Uint32Array"),
  isUint8Array: isKind("Uint8Array"),
  isUint8ClampedArray: isKind("Uint8ClampedArray"),
  isWeakMap: (value: unknown): boolean => value instanceof WeakMap,
  isWeakSet: (value: unknown): boolean => value instanceof WeakSet,
};
