// Deep equality, strict as of util.isDeepStrictEqual or loose as of assert.deepEqual.

type Pairs = Map<object, object>;

export function isDeepEqual(first: unknown, second: unknown, strict: boolean): boolean {
  return compare(first, second, strict, new Map());
}

function samePrimitive(first: unknown, second: unknown, strict: boolean): boolean {
  if (strict) return Object.is(first, second);
  // Loose on purpose; NaN equals itself.
  return first == second || (first !== first && second !== second);
}

function compare(first: unknown, second: unknown, strict: boolean, seen: Pairs): boolean {
  if (first === second) return first !== 0 || !strict || Object.is(first, second);
  const bothObjects = typeof first === "object" && first !== null && typeof second === "object" && second !== null;
  if (!bothObjects) {
    const anyObject = (typeof first === "object" && first !== null) || (typeof second === "object" && second !== null);
    return !anyObject && samePrimitive(first, second, strict);
  }
  // What is being compared already, further out, decides there.
  if (seen.get(first) === second) return true;
  seen.set(first, second);
  const equal = compareObjects(first, second, strict, seen);
  seen.delete(first);
  return equal;
}

function compareObjects(first: object, second: object, strict: boolean, seen: Pairs): boolean {
  if (strict && Object.getPrototypeOf(first) !== Object.getPrototypeOf(second)) return false;
  const tag = Object.prototype.toString.call(first);
  if (tag !== Object.prototype.toString.call(second)) return false;
  if (Array.isArray(first) !== Array.isArray(second)) return false;
  if (Array.isArray(first) && first.length !== (second as unknown[]).length) return false;
  if (first instanceof Error || second instanceof Error) {
    if (!(first instanceof Error && second instanceof Error)) return false;
    if (first.message !== second.message || first.name !== second.name) return false;
    if (!compare(first.cause, second.cause, strict, seen)) return false;
  }
  if (first instanceof Date && second instanceof Date && !Object.is(first.getTime(), second.getTime())) return false;
  if (first instanceof RegExp && second instanceof RegExp) {
    if (first.source !== second.source || first.flags !== second.flags || first.lastIndex !== second.lastIndex) return false;
  }
  if (first instanceof Number || first instanceof String || first instanceof Boolean || first instanceof BigInt) {
    if (!Object.is(first.valueOf(), second.valueOf())) return false;
  }
  if (ArrayBuffer.isView(first) || first instanceof ArrayBuffer) return sameBytes(first, second, strict);
  if (first instanceof Promise || first instanceof WeakMap || first instanceof WeakSet) return false;
  if (first instanceof Set && !sameSet(first, second as Set<unknown>, strict, seen)) return false;
  if (first instanceof Map && !sameMap(first, second as Map<unknown, unknown>, strict, seen)) return false;
  return sameMembers(first, second, strict, seen);
}

function sameBytes(first: ArrayBufferView | ArrayBuffer, second: object, strict: boolean): boolean {
  if (!strict && (first instanceof Float32Array || first instanceof Float64Array)) {
    const other = second as Float64Array;
    return first.length === other.length && first.every((value, index) => value === other[index]);
  }
  const left = bytesOf(first);
  const right = bytesOf(second as ArrayBufferView | ArrayBuffer);
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}

function bytesOf(value: ArrayBufferView | ArrayBuffer): Uint8Array {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  return new Uint8Array(value);
}

function sameSet(first: Set<unknown>, second: Set<unknown>, strict: boolean, seen: Pairs): boolean {
  if (first.size !== second.size) return false;
  const left = [...second].filter((item) => !first.has(item));
  for (const item of first) {
    if (second.has(item)) continue;
    const match = left.findIndex((other) => compare(item, other, strict, seen));
    if (match < 0) return false;
    left.splice(match, 1);
  }
  return true;
}

function sameMap(
  first: Map<unknown, unknown>,
  second: Map<unknown, unknown>,
  strict: boolean,
  seen: Pairs,
): boolean {
  if (first.size !== second.size) return false;
  const left = [...second.keys()].filter((key) => !first.has(key));
  for (const [key, value] of first) {
    if (second.has(key)) {
      if (!compare(value, second.get(key), strict, seen)) return false;
      continue;
    }
    const match = left.findIndex(
      (other) => compare(key, other, strict, seen) && compare(value, second.get(other), strict, seen),
    );
    if (match < 0) return false;
    left.splice(match, 1);
  }
  return true;
}

function keysOf(value: object, strict: boolean): (string | symbol)[] {
  const keys: (string | symbol)[] = Object.keys(value);
  if (!strict) return keys;
  const isEnumerable = (symbol: symbol): boolean => Object.prototype.propertyIsEnumerable.call(value, symbol);
  return keys.concat(Object.getOwnPropertySymbols(value).filter(isEnumerable));
}

function sameMembers(first: object, second: object, strict: boolean, seen: Pairs): boolean {
  const keys = keysOf(first, strict);
  if (keys.length !== keysOf(second, strict).length) return false;
  for (const key of keys) {
    if (!Object.prototype.propertyIsEnumerable.call(second, key)) return false;
    const left = (first as Record<string | symbol, unknown>)[key];
    if (!compare(left, (second as Record<string | symbol, unknown>)[key], strict, seen)) return false;
  }
  return true;
}
