// RSASSA-PKCS1-v1_5 and RSA-PSS.
// https://w3c.github.io/webcrypto/#rsassa-pkcs1, #rsa-pss

import { start } from "../host.js";
import { refuseAtLoad } from "../load.js";
import { RSA_CHECK, RSA_GENERATE, RSA_SIGN, RSA_VERIFY } from "../ops.js";
import { type Algorithm, elsewhere } from "./algorithm.js";
import { der, derSmall, derUnsigned, DerReader, readPkcs8, readSpki, SEQUENCE, writePkcs8, writeSpki } from "./der.js";
import { checkJwk, jwkBytes, toBase64Url } from "./jwk.js";
import { type CryptoKey, type KeyAlgorithm, type KeyType, makeKey, normalizeUsages } from "./key.js";
import * as params from "./params.js";
import { type Dictionary, refuse } from "./params.js";

/** rsaEncryption, 1.2.840.113549.1.1.1, with NULL. */
const RSA_ID = {
  oid: Uint8Array.of(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01),
  parameters: Uint8Array.of(0x05, 0x00),
};
const PUBLIC_MEMBERS = ["n", "e"];
const PRIVATE_MEMBERS = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];

/** The integers of a PKCS#1 key, in the order of its members. */
function readIntegers(key: Uint8Array, type: KeyType): Uint8Array[] {
  const outer = new DerReader(key);
  const reader = outer.enter(SEQUENCE);
  outer.expectEnd();
  if (type === "private") reader.readUnsigned();
  const members = type === "private" ? PRIVATE_MEMBERS : PUBLIC_MEMBERS;
  return members.map(() => reader.readUnsigned());
}

function bitLength(integer: Uint8Array): number {
  return integer.length * 8 - Math.clz32(integer[0]!) + 24;
}

function allowedUsages(type: KeyType): string[] {
  return type === "private" ? ["sign"] : ["verify"];
}

async function makeRsaKey(
  name: string,
  hash: string,
  type: KeyType,
  material: Uint8Array,
  extractable: boolean,
  usages: readonly string[],
): Promise<CryptoKey> {
  const [modulus, publicExponent] = readIntegers(material, type) as [Uint8Array, Uint8Array];
  await elsewhere(RSA_CHECK, type === "private", material);
  const algorithm: KeyAlgorithm = {
    ...{ name, modulusLength: bitLength(modulus), publicExponent: publicExponent.slice() },
    hash: { name: hash },
  };
  return makeKey({ type, extractable, algorithm, usages: normalizeUsages(usages, allowedUsages(type)), material });
}

function checkUsages(usages: readonly string[], type: KeyType): void {
  const allowed = allowedUsages(type);
  if (!usages.every((usage) => allowed.includes(usage))) {
    refuse("SyntaxError", `A ${type} key can only be used to ${allowed[0]}`);
  }
}

function importJwk(jwk: Dictionary, alg: string, extractable: boolean, usages: readonly string[]): [KeyType, Uint8Array] {
  const type = jwk["d"] === undefined ? "public" : "private";
  checkUsages(usages, type);
  checkJwk(jwk, { kty: "RSA", use: "sig", alg, usages, extractable });
  const members = type === "private" ? PRIVATE_MEMBERS : PUBLIC_MEMBERS;
  const integers = members.map((member) => derUnsigned(jwkBytes(jwk, member)));
  return [type, type === "private" ? der(SEQUENCE, derSmall(0), ...integers) : der(SEQUENCE, ...integers)];
}

/** The exponents that the host can make keys with: 3 and 65537. */
function isUsualExponent(exponent: Uint8Array): boolean {
  let value = 0;
  for (const byte of exponent) value = value * 256 + byte;
  return value === 3 || value === 65_537;
}

function rsa(name: string, padding: "pkcs1" | "pss", algPrefix: string): Algorithm {
  const algOf = (hash: string): string => algPrefix + (hash === "SHA-1" ? "1" : hash.slice(4));
  const saltLength = (given: Dictionary): number =>
    padding === "pss" ? params.integerMember(given, "saltLength", 0xffff_ffff) : 0;
  return {
    name,
    sign(given) {
      const salt = saltLength(given);
      return (key, data) => {
        if (key.type !== "private") refuse("InvalidAccessError", "Signing takes a private key");
        if (padding === "pss") refuseAtLoad(`crypto.subtle.sign with ${name}`);
        return start(RSA_SIGN, padding, key.algorithm.hash!.name, key.material, salt, data) as Promise<Uint8Array>;
      };
    },
    verify(given) {
      const salt = saltLength(given);
      return (key, signature, data) => {
        if (key.type !== "public") refuse("InvalidAccessError", "Verifying takes a public key");
        const hash = key.algorithm.hash!.name;
        return start(RSA_VERIFY, padding, hash, key.material, salt, signature, data) as Promise<boolean>;
      };
    },
    generateKey(given) {
      const hash = params.hashMember(given, "hash");
      const modulusLength = params.integerMember(given, "modulusLength", 0xffff_ffff);
      const exponent = params.bigIntegerMember(given, "publicExponent");
      return async (extractable, usages) => {
        if (!usages.every((usage) => usage === "sign" || usage === "verify")) {
          refuse("SyntaxError", "A key pair can only be used to sign and verify");
        }
        if (!isUsualExponent(exponent)) refuse("OperationError", "The public exponent is 3 or 65537");
        if (modulusLength < 1024 || modulusLength > 8192 || modulusLength % 8 !== 0) {
          refuse("OperationError", "The modulus has 1024 to 8192 bits, a multiple of 8");
        }
        // Told before a key is made in vain.
        if (!usages.includes("sign")) refuse("SyntaxError", "A key pair is made for signing");
        refuseAtLoad("crypto.subtle.generateKey");
        const [publicKey, privateKey] = (await start(RSA_GENERATE, modulusLength, exponent)) as [Uint8Array, Uint8Array];
        return {
          publicKey: await makeRsaKey(name, hash, "public", publicKey, true, usages),
          privateKey: await makeRsaKey(name, hash, "private", privateKey, extractable, usages),
        };
      };
    },
    importKey(given) {
      const hash = params.hashMember(given, "hash");
      return (format, data, extractable, usages) => {
        if (format === "raw") refuse("NotSupportedError", "An RSA key has no raw format");
        let type: KeyType = format === "pkcs8" ? "private" : "public";
        let material: Uint8Array;
        if (format === "jwk") {
          [type, material] = importJwk(data as Dictionary, algOf(hash), extractable, usages);
        } else {
          checkUsages(usages, type);
          material = (type === "private" ? readPkcs8 : readSpki)(data as Uint8Array, RSA_ID);
        }
        return makeRsaKey(name, hash, type, material, extractable, usages);
      };
    },
    exportKey(format, key) {
      if (format === "spki" || format === "pkcs8") {
        if (key.type !== (format === "spki" ? "public" : "private")) {
          refuse("InvalidAccessError", `A ${key.type} key has no ${format} format`);
        }
        return (format === "spki" ? writeSpki : writePkcs8)(RSA_ID, key.material);
      }
      if (format !== "jwk") refuse("NotSupportedError", "An RSA key has no raw format");
      const jwk: Dictionary = { kty: "RSA", alg: algOf(key.algorithm.hash!.name) };
      jwk["key_ops"] = key.usages;
      jwk["ext"] = key.extractable;
      const members = key.type === "private" ? PRIVATE_MEMBERS : PUBLIC_MEMBERS;
      const integers = readIntegers(key.material, key.type);
      members.forEach((member, index) => (jwk[member] = toBase64Url(integers[index]!)));
      return jwk;
    },
  };
}

export const rsaAlgorithms: readonly Algorithm[] = [
  rsa("RSASSA-PKCS1-v1_5", "pkcs1", "RS"),
  rsa("RSA-PSS", "pss", "PS"),
];
