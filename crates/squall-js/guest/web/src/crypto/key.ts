// CryptoKey: key material that only this layer and the host see.
// https://w3c.github.io/webcrypto/#cryptokey-interface

import { finishInterface } from "../interface.js";

export type KeyType = "secret" | "private" | "public";

/** The algorithm of a key, as its attribute shows it. */
export interface KeyAlgorithm {
  readonly name: string;
  readonly hash?: { readonly name: string };
  readonly length?: number;
  readonly modulusLength?: number;
  readonly publicExponent?: Uint8Array;
  readonly namedCurve?: string;
}

export interface KeyParts {
  readonly type: KeyType;
  extractable: boolean;
  readonly algorithm: KeyAlgorithm;
  usages: string[];
  /** As ops.ts says under "Crypto". */
  readonly material: Uint8Array;
  /** The public half of a private EC or Ed25519 key. */
  readonly publicMaterial?: Uint8Array;
}

export let makeKey: (parts: KeyParts) => CryptoKey;
export let keyParts: (key: CryptoKey) => KeyParts;
export let isCryptoKey: (value: unknown) => value is CryptoKey;

let making: KeyParts | null = null;

export class CryptoKey {
  #parts: KeyParts;

  static {
    makeKey = (parts) => {
      making = parts;
      return new CryptoKey();
    };
    keyParts = (key) => key.#parts;
    isCryptoKey = (value): value is CryptoKey => typeof value === "object" && value !== null && #parts in value;
  }

  constructor() {
    if (making === null) throw new TypeError("Illegal constructor");
    this.#parts = making;
    making = null;
  }

  get type(): string {
    return this.#parts.type;
  }

  get extractable(): boolean {
    return this.#parts.extractable;
  }

  get algorithm(): KeyAlgorithm {
    return this.#parts.algorithm;
  }

  get usages(): string[] {
    return this.#parts.usages;
  }
}

finishInterface(CryptoKey);

export const USAGES = [
  ...["encrypt", "decrypt", "sign", "verify", "deriveKey", "deriveBits", "wrapKey", "unwrapKey"],
];

/** The usages that are also allowed, once each, in the standard's order. */
export function normalizeUsages(usages: readonly string[], allowed: readonly string[]): string[] {
  return USAGES.filter((usage) => usages.includes(usage) && allowed.includes(usage));
}
