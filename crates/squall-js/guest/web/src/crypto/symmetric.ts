// HMAC, AES-CBC and AES-GCM.
// https://w3c.github.io/webcrypto/#hmac, #aes-cbc, #aes-gcm

import * as ops from "../ops.js";
import { type Algorithm, either, type KeyFormat } from "./algorithm.js";
import { checkJwk, jwkBytes, toBase64Url } from "./jwk.js";
import { type CryptoKey, type KeyAlgorithm, type KeyParts, makeKey, normalizeUsages } from "./key.js";
import * as params from "./params.js";
import { type Dictionary, refuse } from "./params.js";
import { randomBytes } from "./random.js";

function checkUsages(usages: readonly string[], allowed: readonly string[]): void {
  if (!usages.every((usage) => allowed.includes(usage))) {
    refuse("SyntaxError", `This key can only be used to ${allowed.join(", ")}`);
  }
}

function makeSecret(
  algorithm: KeyAlgorithm,
  material: Uint8Array,
  extractable: boolean,
  usages: readonly string[],
  allowed: readonly string[],
): CryptoKey {
  return makeKey({ type: "secret", extractable, algorithm, usages: normalizeUsages(usages, allowed), material });
}

function exportSecret(format: KeyFormat, key: KeyParts, alg: string): Uint8Array | Dictionary {
  if (format === "raw") return key.material.slice();
  if (format !== "jwk") refuse("NotSupportedError", `A secret key has no ${format} format`);
  return { kty: "oct", k: toBase64Url(key.material), alg, key_ops: key.usages, ext: key.extractable };
}

/** The bytes of a secret, with the JWK's members checked. */
function importSecret(
  format: KeyFormat,
  data: Uint8Array | Dictionary,
  use: string,
  alg: (length: number) => string,
  extractable: boolean,
  usages: readonly string[],
): Uint8Array {
  if (format === "raw") return data as Uint8Array;
  if (format !== "jwk") refuse("NotSupportedError", `A secret key has no ${format} format`);
  const jwk = data as Dictionary;
  checkJwk(jwk, { kty: "oct", use, usages, extractable });
  const bytes = jwkBytes(jwk, "k");
  checkJwk(jwk, { kty: "oct", use, alg: alg(bytes.length * 8), usages, extractable });
  return bytes;
}

// HMAC

const HMAC_USAGES = ["sign", "verify"];
const BLOCK_BITS: Record<string, number> = { "SHA-1": 512, "SHA-256": 512, "SHA-384": 1024, "SHA-512": 1024 };

function hmacAlgorithm(hash: string, length: number): KeyAlgorithm {
  return { name: "HMAC", hash: { name: hash }, length };
}

const hmac: Algorithm = {
  name: "HMAC",
  sign: () => (key, data) =>
    either(ops.HMAC_SIGN, key.algorithm.hash!.name, key.material, data) as Uint8Array,
  verify: () => (key, signature, data) =>
    either(ops.HMAC_VERIFY, key.algorithm.hash!.name, key.material, signature, data) as boolean,
  generateKey(given) {
    const hash = params.hashMember(given, "hash");
    const length = params.optionalIntegerMember(given, "length", 0xffff_ffff) ?? BLOCK_BITS[hash]!;
    return (extractable, usages) => {
      checkUsages(usages, HMAC_USAGES);
      if (length === 0) refuse("OperationError", "An HMAC key has at least one bit");
      const material = randomBytes("crypto.subtle.generateKey", Math.ceil(length / 8));
      return makeSecret(hmacAlgorithm(hash, length), material, extractable, usages, HMAC_USAGES);
    };
  },
  importKey(given) {
    const hash = params.hashMember(given, "hash");
    const asked = params.optionalIntegerMember(given, "length", 0xffff_ffff);
    return (format, data, extractable, usages) => {
      checkUsages(usages, HMAC_USAGES);
      const alg = `HS${hash.slice(4)}`;
      const material = importSecret(format, data, "sig", () => alg, extractable, usages);
      const bits = material.length * 8;
      if (bits === 0) refuse("DataError", "An HMAC key has at least one bit");
      if (asked !== null && (asked > bits || asked <= bits - 8)) {
        refuse("DataError", "length does not fit the key");
      }
      return makeSecret(hmacAlgorithm(hash, asked ?? bits), material, extractable, usages, HMAC_USAGES);
    };
  },
  exportKey: (format, key) => exportSecret(format, key, `HS${key.algorithm.hash!.name.slice(4)}`),
  keyLength(given) {
    const hash = params.hashMember(given, "hash");
    const length = params.optionalIntegerMember(given, "length", 0xffff_ffff);
    if (length === 0) throw new TypeError("An HMAC key has at least one bit");
    return length ?? BLOCK_BITS[hash]!;
  },
};

// AES

const AES_USAGES = ["encrypt", "decrypt", "wrapKey", "unwrapKey"];

function isAesLength(bits: number): boolean {
  return bits === 128 || bits === 192 || bits === 256;
}

/** What AES-CBC and AES-GCM have in common. */
function aes(name: string, suffix: string): Algorithm {
  const alg = (bits: number): string => `A${bits}${suffix}`;
  return {
    name,
    generateKey(given) {
      const length = params.integerMember(given, "length", 0xffff);
      return (extractable, usages) => {
        checkUsages(usages, AES_USAGES);
        if (!isAesLength(length)) refuse("OperationError", "An AES key has 128, 192 or 256 bits");
        const material = randomBytes("crypto.subtle.generateKey", length / 8);
        return makeSecret({ name, length }, material, extractable, usages, AES_USAGES);
      };
    },
    importKey: () => (format, data, extractable, usages) => {
      checkUsages(usages, AES_USAGES);
      const material = importSecret(format, data, "enc", alg, extractable, usages);
      const length = material.length * 8;
      if (!isAesLength(length)) refuse("DataError", "An AES key has 128, 192 or 256 bits");
      return makeSecret({ name, length }, material, extractable, usages, AES_USAGES);
    },
    exportKey: (format, key) => exportSecret(format, key, alg(key.algorithm.length!)),
    keyLength(given) {
      const length = params.integerMember(given, "length", 0xffff);
      if (!isAesLength(length)) refuse("OperationError", "An AES key has 128, 192 or 256 bits");
      return length;
    },
  };
}

function cbc(op: number): (given: Dictionary) => (key: KeyParts, data: Uint8Array) => Uint8Array {
  return (given) => {
    const iv = params.bytesMember(given, "iv");
    return (key, data) => {
      if (iv.length !== 16) refuse("OperationError", "The iv of AES-CBC has 16 bytes");
      return either(op, key.material, iv, data) as Uint8Array;
    };
  };
}

const TAG_BITS = [32, 64, 96, 104, 112, 120, 128];

function gcm(op: number): (given: Dictionary) => (key: KeyParts, data: Uint8Array) => Uint8Array {
  return (given) => {
    const additional = params.optionalBytesMember(given, "additionalData") ?? new Uint8Array(0);
    const iv = params.bytesMember(given, "iv");
    const tagBits = params.optionalIntegerMember(given, "tagLength", 255) ?? 128;
    return (key, data) => {
      if (!TAG_BITS.includes(tagBits)) refuse("OperationError", `A tag of AES-GCM can not have ${tagBits} bits`);
      if (op === ops.AES_GCM_DECRYPT && data.length < tagBits / 8) {
        refuse("OperationError", "The data is shorter than the tag");
      }
      return either(op, key.material, iv, data, additional, tagBits / 8) as Uint8Array;
    };
  };
}

export const symmetric: readonly Algorithm[] = [
  hmac,
  { ...aes("AES-CBC", "CBC"), encrypt: cbc(ops.AES_CBC_ENCRYPT), decrypt: cbc(ops.AES_CBC_DECRYPT) },
  { ...aes("AES-GCM", "GCM"), encrypt: gcm(ops.AES_GCM_ENCRYPT), decrypt: gcm(ops.AES_GCM_DECRYPT) },
];
