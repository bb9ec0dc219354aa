// What an algorithm can do. Each offered one is an object of this shape; subtle.ts finds it by
// name and does what all of them have in common.

import { host, type HostValue, start } from "../host.js";
import { isLoading } from "../load.js";
import type { CryptoKey, KeyParts } from "./key.js";
import type { Dictionary } from "./params.js";

export type KeyFormat = "raw" | "spki" | "pkcs8" | "jwk";
export type KeyResult = CryptoKey | { publicKey: CryptoKey; privateKey: CryptoKey };
type Bytes = Uint8Array | Promise<Uint8Array>;

export interface Algorithm {
  readonly name: string;
  /** Each converts its parameters at once and returns the work. */
  encrypt?(params: Dictionary): (key: KeyParts, data: Uint8Array) => Bytes;
  decrypt?(params: Dictionary): (key: KeyParts, data: Uint8Array) => Bytes;
  sign?(params: Dictionary): (key: KeyParts, data: Uint8Array) => Bytes;
  verify?(params: Dictionary): (key: KeyParts, signature: Uint8Array, data: Uint8Array) => boolean | Promise<boolean>;
  deriveBits?(params: Dictionary): (key: KeyParts, length: number | null) => Bytes;
  generateKey?(params: Dictionary): (extractable: boolean, usages: string[]) => KeyResult | Promise<KeyResult>;
  importKey?(params: Dictionary): (format: KeyFormat, data: Uint8Array | Dictionary, extractable: boolean, usages: string[]) => CryptoKey | Promise<CryptoKey>;
  exportKey?(format: KeyFormat, key: KeyParts): Uint8Array | Dictionary;
  /** Length in bits of a key to derive; null where any will do. */
  keyLength?(params: Dictionary): number | null;
}

/** More than this is work for another thread of the host. */
const LONG = 65_536;

/** An operation that ops.ts calls `either`: started when what it is given is long in all. */
export function either(op: number, ...values: HostValue[]): HostValue | Promise<HostValue> {
  let size = 0;
  for (const value of values) if (value instanceof Uint8Array) size += value.length;
  return size > LONG ? elsewhere(op, ...values) : host.call(op, ...values);
}

/** An operation for another thread of the host; top-level code waits for it. */
export function elsewhere(op: number, ...values: HostValue[]): HostValue | Promise<HostValue> {
  return isLoading() ? host.call(op, ...values) : start(op, ...values);
}
