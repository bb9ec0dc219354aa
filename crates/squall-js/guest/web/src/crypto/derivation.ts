// HKDF and PBKDF2.
// https://w3c.github.io/webcrypto/#hkdf, #pbkdf2

import { host, start } from "../host.js";
import { HKDF, PBKDF2 } from "../ops.js";
import type { Algorithm } from "./algorithm.js";
import { makeKey, normalizeUsages } from "./key.js";
import * as params from "./params.js";
import { refuse } from "./params.js";

const USAGES = ["deriveKey", "deriveBits"];

/** What the two have in common: a key is any bytes, imported raw. */
function derivation(name: string, derive: Algorithm["deriveBits"] & {}): Algorithm {
  return {
    name,
    deriveBits: derive,
    importKey: () => (format, data, extractable, usages) => {
      if (format !== "raw") refuse("NotSupportedError", `A key for ${name} has no ${format} format`);
      if (!usages.every((usage) => USAGES.includes(usage))) {
        refuse("SyntaxError", `A key for ${name} can only be used to derive`);
      }
      if (extractable) refuse("SyntaxError", `A key for ${name} is never extractable`);
      const material = data as Uint8Array;
      return makeKey({
        ...{ type: "secret", extractable, algorithm: { name }, material },
        usages: normalizeUsages(usages, USAGES),
      });
    },
    keyLength: () => null,
  };
}

function bytesOf(length: number | null): number {
  if (length === null || length % 8 !== 0) refuse("OperationError", "The length is a multiple of 8 bits");
  return length / 8;
}

export const derivations: readonly Algorithm[] = [
  derivation("HKDF", (given) => {
    const hash = params.hashMember(given, "hash");
    const info = params.bytesMember(given, "info");
    const salt = params.bytesMember(given, "salt");
    return (key, length) => {
      const bytes = bytesOf(length);
      return bytes === 0 ? new Uint8Array(0) : (host.call(HKDF, hash, key.material, salt, info, bytes) as Uint8Array);
    };
  }),
  derivation("PBKDF2", (given) => {
    const hash = params.hashMember(given, "hash");
    const iterations = params.integerMember(given, "iterations", 0xffff_ffff);
    const salt = params.bytesMember(given, "salt");
    return (key, length) => {
      const bytes = bytesOf(length);
      if (iterations === 0) refuse("OperationError", "PBKDF2 needs at least one iteration");
      if (bytes === 0) return new Uint8Array(0);
      return start(PBKDF2, hash, key.material, salt, iterations, bytes) as Promise<Uint8Array>;
    };
  }),
];
