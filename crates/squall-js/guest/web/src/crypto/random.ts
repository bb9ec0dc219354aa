// crypto.getRandomValues and randomUUID: every byte is the host's.
// https://w3c.github.io/webcrypto/#Crypto-method-getRandomValues

import { DOMException, QuotaExceededError } from "../errors.js";
import { host } from "../host.js";
import { refuseAtLoad } from "../load.js";
import { RANDOM_BYTES } from "../ops.js";

const MOST_BYTES = 65_536;
const INTEGER_ARRAYS = [
  ...["Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array"],
  ...["Int32Array", "Uint32Array", "BigInt64Array", "BigUint64Array"],
];
const typedArrayPrototype = Object.getPrototypeOf(Uint8Array.prototype) as object;
/** The name that a typed array has by its kind, whatever class it was given. */
const kindOf = Object.getOwnPropertyDescriptor(typedArrayPrototype, Symbol.toStringTag)!.get!;

export function getRandomValues(array: unknown): ArrayBufferView {
  if (!ArrayBuffer.isView(array)) throw new TypeError("getRandomValues takes an integer typed array");
  if (!INTEGER_ARRAYS.includes(kindOf.call(array) as string)) {
    throw new DOMException("getRandomValues takes an integer typed array", "TypeMismatchError");
  }
  if (array.byteLength > MOST_BYTES) {
    throw new QuotaExceededError(`getRandomValues gives at most ${MOST_BYTES} bytes`);
  }
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  bytes.set(randomBytes("crypto.getRandomValues", bytes.length));
  return array;
}

export function randomBytes(purpose: string, length: number): Uint8Array {
  refuseAtLoad(purpose);
  return host.call(RANDOM_BYTES, length) as Uint8Array;
}

const HEX: string[] = [];
for (let byte = 0; byte < 256; byte++) HEX.push(byte.toString(16).padStart(2, "0"));

// https://www.rfc-editor.org/rfc/rfc9562#section-5.4
export function randomUuid(): string {
  const bytes = randomBytes("crypto.randomUUID", 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  let text = "";
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) text += "-";
    text += HEX[bytes[index]!];
  }
  return text;
}
