// Members of algorithm dictionaries, converted as Web IDL asks.
// https://w3c.github.io/webcrypto/#algorithm-dictionary

import { viewBytes } from "../blob.js";
import { DOMException } from "../errors.js";

export type Dictionary = Record<string, unknown>;

function required(params: Dictionary, name: string): unknown {
  const value = params[name];
  if (value === undefined) throw new TypeError(`The algorithm needs the member ${name}`);
  return value;
}

/** The bytes of a BufferSource, before they are copied. */
export function sourceBytes(value: unknown, name: string): Uint8Array {
  const bytes = typeof value === "object" && value !== null ? viewBytes(value) : null;
  if (bytes === null) throw new TypeError(`${name} is an ArrayBuffer or a view of one`);
  return bytes;
}

/** A copy of what a BufferSource shows. */
export function bufferSource(value: unknown, name: string): Uint8Array {
  return sourceBytes(value, name).slice();
}

export function bytesMember(params: Dictionary, name: string): Uint8Array {
  return bufferSource(required(params, name), name);
}

export function optionalBytesMember(params: Dictionary, name: string): Uint8Array | null {
  return params[name] === undefined ? null : bytesMember(params, name);
}

/** [EnforceRange] of an unsigned type with this largest value. */
export function integerMember(params: Dictionary, name: string, largest: number): number {
  const number = Math.trunc(Number(required(params, name)));
  if (!(number >= 0 && number <= largest)) throw new TypeError(`${name} is out of range`);
  return number + 0;
}

export function optionalIntegerMember(params: Dictionary, name: string, largest: number): number | null {
  return params[name] === undefined ? null : integerMember(params, name, largest);
}

export function bigIntegerMember(params: Dictionary, name: string): Uint8Array {
  const value = required(params, name);
  if (!(value instanceof Uint8Array)) throw new TypeError(`${name} is a Uint8Array`);
  return value.slice();
}

export function stringMember(params: Dictionary, name: string): string {
  return `${required(params, name)}`;
}

const HASHES = ["SHA-1", "SHA-256", "SHA-384", "SHA-512"];

/** The name of a hash, given as a string or an object with a name. */
export function hashName(value: unknown): string {
  let name: string;
  if ((typeof value === "object" && value !== null) || typeof value === "function") {
    name = stringMember(value as Dictionary, "name");
  } else {
    name = `${value}`;
  }
  const found = HASHES.find((hash) => hash === name.toUpperCase());
  if (found === undefined) throw new DOMException(`The hash ${name} is not offered`, "NotSupportedError");
  return found;
}

export function hashMember(params: Dictionary, name: string): string {
  return hashName(required(params, name));
}

/** What a mistaken argument is refused with. */
export function refuse(name: string, message: string): never {
  throw new DOMException(message, name);
}
