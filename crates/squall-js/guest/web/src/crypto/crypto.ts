// The object behind the global `crypto`.
// https://w3c.github.io/webcrypto/#crypto-interface

import { finishInterface } from "../interface.js";
import { getRandomValues, randomUuid } from "./random.js";
import { type SubtleCrypto, subtle } from "./subtle.js";

let constructible = true;

export class Crypto {
  readonly #brand = true;

  constructor() {
    if (!constructible) throw new TypeError("Illegal constructor");
  }

  get subtle(): SubtleCrypto {
    this.#brand;
    return subtle;
  }

  getRandomValues(array: unknown): ArrayBufferView {
    this.#brand;
    return getRandomValues(array);
  }

  randomUUID(): string {
    this.#brand;
    return randomUuid();
  }
}

finishInterface(Crypto);
export const crypto = new Crypto();
constructible = false;
