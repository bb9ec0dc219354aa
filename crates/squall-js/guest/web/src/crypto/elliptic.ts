// ECDSA over P-256 and P-384, and Ed25519.
// https://w3c.github.io/webcrypto/#ecdsa, #ed25519; RFC 5915, RFC 5480, RFC 8410, RFC 8037

import { host, start } from "../host.js";
import { refuseAtLoad } from "../load.js";
import * as ops from "../ops.js";
import { type Algorithm, either, type KeyFormat } from "./algorithm.js";
import * as asn1 from "./der.js";
import { type AlgorithmId, DerReader, readPkcs8, readSpki, sameBytes, writePkcs8, writeSpki } from "./der.js";
import { checkJwk, jwkBytes, toBase64Url } from "./jwk.js";
import { type CryptoKey, type KeyAlgorithm, type KeyParts, type KeyType, makeKey, normalizeUsages } from "./key.js";
import * as params from "./params.js";
import { type Dictionary, refuse } from "./params.js";

/** The two halves of a key as ops.ts describes them; `secret` is null in a public key. */
interface Material {
  secret: Uint8Array | null;
  point: Uint8Array;
}

/** How one kind of key is written. */
interface Encoding {
  readonly algorithm: KeyAlgorithm;
  readonly id: AlgorithmId;
  readonly kty: string;
  readonly crv: string;
  /** The alg that a JWK may carry; undefined where it is not looked at. */
  readonly alg: string | undefined;
  fromRaw(bytes: Uint8Array): Uint8Array;
  /** The contents of a PKCS#8 key. */
  fromPrivate(bytes: Uint8Array): Material;
  toPrivate(key: KeyParts): Uint8Array;
  fromJwk(jwk: Dictionary): Material;
  toJwk(point: Uint8Array): Dictionary;
}

function allowedUsages(type: KeyType): string[] {
  return type === "private" ? ["sign"] : ["verify"];
}

function checkUsages(usages: readonly string[], type: KeyType): void {
  const allowed = allowedUsages(type);
  if (!usages.every((usage) => allowed.includes(usage))) {
    refuse("SyntaxError", `A ${type} key can only be used to ${allowed[0]}`);
  }
}

function makeHalf(
  encoding: Encoding,
  material: Material,
  type: KeyType,
  extractable: boolean,
  usages: readonly string[],
): CryptoKey {
  const { algorithm } = encoding;
  const kept = normalizeUsages(usages, allowedUsages(type));
  if (type === "public") return makeKey({ type, extractable, algorithm: { ...algorithm }, usages: kept, material: material.point });
  return makeKey({
    ...{ type, extractable, algorithm: { ...algorithm }, usages: kept },
    ...{ material: material.secret!, publicMaterial: material.point },
  });
}

function makePair(encoding: Encoding, generated: [Uint8Array, Uint8Array], extractable: boolean, usages: string[]) {
  const material = { point: generated[0], secret: generated[1] };
  return {
    publicKey: makeHalf(encoding, material, "public", true, usages),
    privateKey: makeHalf(encoding, material, "private", extractable, usages),
  };
}

function checkPairUsages(usages: readonly string[]): void {
  if (!usages.every((usage) => usage === "sign" || usage === "verify")) {
    refuse("SyntaxError", "A key pair can only be used to sign and verify");
  }
  if (!usages.includes("sign")) refuse("SyntaxError", "A key pair is made for signing");
  refuseAtLoad("crypto.subtle.generateKey");
}

function importEncoded(
  encoding: Encoding,
  format: KeyFormat,
  data: Uint8Array | Dictionary,
  extractable: boolean,
  usages: string[],
): CryptoKey {
  if (format === "jwk") {
    const jwk = data as Dictionary;
    const type = jwk["d"] === undefined ? "public" : "private";
    checkUsages(usages, type);
    const { kty, crv, alg } = encoding;
    checkJwk(jwk, alg === undefined ? { kty, use: "sig", usages, extractable } : { kty, use: "sig", alg, usages, extractable });
    if (jwk["crv"] !== crv) refuse("DataError", `The key's crv is not ${crv}`);
    return makeHalf(encoding, encoding.fromJwk(jwk), type, extractable, usages);
  }
  const type = format === "pkcs8" ? "private" : "public";
  checkUsages(usages, type);
  const bytes = data as Uint8Array;
  let material: Material;
  if (format === "pkcs8") material = encoding.fromPrivate(readPkcs8(bytes, encoding.id));
  else material = { secret: null, point: encoding.fromRaw(format === "spki" ? readSpki(bytes, encoding.id) : bytes) };
  return makeHalf(encoding, material, type, extractable, usages);
}

function exportEncoded(encoding: Encoding, format: KeyFormat, key: KeyParts): Uint8Array | Dictionary {
  if (format === "jwk") {
    const jwk: Dictionary = encoding.toJwk(key.publicMaterial ?? key.material);
    if (key.type === "private") jwk["d"] = toBase64Url(key.material);
    if (encoding.kty === "OKP") jwk["alg"] = encoding.algorithm.name;
    jwk["key_ops"] = key.usages;
    jwk["ext"] = key.extractable;
    return jwk;
  }
  if (key.type !== (format === "pkcs8" ? "private" : "public")) {
    refuse("InvalidAccessError", `A ${key.type} key has no ${format} format`);
  }
  if (format === "pkcs8") return writePkcs8(encoding.id, encoding.toPrivate(key));
  return format === "spki" ? writeSpki(encoding.id, key.material) : key.material.slice();
}

// ECDSA

/** id-ecPublicKey, 1.2.840.10045.2.1. */
const EC_OID = Uint8Array.of(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01);

function curve(name: string, bytes: number, oid: readonly number[], alg: string): Encoding {
  const parameters = asn1.der(asn1.OBJECT_IDENTIFIER, Uint8Array.from(oid));
  const point = (encoded: Uint8Array): Uint8Array => host.call(ops.EC_POINT, name, encoded) as Uint8Array;
  const pair = (secret: Uint8Array, claimed: Uint8Array | null): Material => {
    if (secret.length !== bytes) refuse("DataError", `A private key of ${name} has ${bytes} bytes`);
    const derived = host.call(ops.EC_PUBLIC, name, secret) as Uint8Array;
    if (claimed !== null && !sameBytes(derived, point(claimed))) {
      refuse("DataError", "The public key does not belong to the private key");
    }
    return { secret, point: derived };
  };
  return {
    ...{ algorithm: { name: "ECDSA", namedCurve: name }, id: { oid: EC_OID, parameters } },
    ...{ kty: "EC", crv: name, alg },
    fromRaw: point,
    fromPrivate(encoded) {
      const outer = new DerReader(encoded);
      const reader = outer.enter(asn1.SEQUENCE);
      outer.expectEnd();
      reader.readUnsigned();
      const secret = reader.read(asn1.OCTET_STRING).slice();
      if (reader.nextTag === 0xa0 && !sameBytes(reader.read(0xa0), parameters)) {
        refuse("DataError", "The key is of another curve");
      }
      const claimed = reader.nextTag === 0xa1 ? reader.enter(0xa1).read(asn1.BIT_STRING).slice(1) : null;
      return pair(secret, claimed);
    },
    toPrivate(key) {
      const bits = asn1.der(asn1.BIT_STRING, Uint8Array.of(0), key.publicMaterial!);
      return asn1.der(
        asn1.SEQUENCE,
        asn1.derSmall(1),
        asn1.der(asn1.OCTET_STRING, key.material),
        asn1.der(0xa1, bits),
      );
    },
    fromJwk(jwk) {
      const [x, y] = [jwkBytes(jwk, "x"), jwkBytes(jwk, "y")];
      if (x.length !== bytes || y.length !== bytes) refuse("DataError", `A coordinate of ${name} has ${bytes} bytes`);
      const claimed = point(Uint8Array.of(4, ...x, ...y));
      return jwk["d"] === undefined ? { secret: null, point: claimed } : pair(jwkBytes(jwk, "d"), claimed);
    },
    toJwk: (uncompressed) => ({
      kty: "EC",
      crv: name,
      x: toBase64Url(uncompressed.subarray(1, 1 + bytes)),
      y: toBase64Url(uncompressed.subarray(1 + bytes)),
    }),
  };
}

const CURVES = [
  curve("P-256", 32, [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "ES256"),
  curve("P-384", 48, [0x2b, 0x81, 0x04, 0x00, 0x22], "ES384"),
];

function curveNamed(name: string | undefined): Encoding {
  const found = CURVES.find((encoding) => encoding.crv === name);
  return found ?? refuse("NotSupportedError", `The curve ${name} is not offered`);
}

const ecdsa: Algorithm = {
  name: "ECDSA",
  sign(given) {
    const hash = params.hashMember(given, "hash");
    return (key, data) => {
      if (key.type !== "private") refuse("InvalidAccessError", "Signing takes a private key");
      refuseAtLoad("crypto.subtle.sign with ECDSA");
      return start(ops.ECDSA_SIGN, key.algorithm.namedCurve!, hash, key.material, data) as Promise<Uint8Array>;
    };
  },
  verify(given) {
    const hash = params.hashMember(given, "hash");
    return (key, signature, data) => {
      if (key.type !== "public") refuse("InvalidAccessError", "Verifying takes a public key");
      const curveName = key.algorithm.namedCurve!;
      return start(ops.ECDSA_VERIFY, curveName, hash, key.material, signature, data) as Promise<boolean>;
    };
  },
  generateKey(given) {
    const name = params.stringMember(given, "namedCurve");
    return async (extractable, usages) => {
      const encoding = curveNamed(name);
      checkPairUsages(usages);
      const generated = (await start(ops.EC_GENERATE, name)) as [Uint8Array, Uint8Array];
      return makePair(encoding, generated, extractable, usages);
    };
  },
  importKey(given) {
    const name = params.stringMember(given, "namedCurve");
    return (format, data, extractable, usages) =>
      importEncoded(curveNamed(name), format, data, extractable, usages);
  },
  exportKey: (format, key) => exportEncoded(curveNamed(key.algorithm.namedCurve), format, key),
};

// Ed25519

function ed25519Pair(seed: Uint8Array, claimed: Uint8Array | null): Material {
  if (seed.length !== 32) refuse("DataError", "A private key of Ed25519 has 32 bytes");
  const point = host.call(ops.ED25519_PUBLIC, seed) as Uint8Array;
  if (claimed !== null && !sameBytes(point, claimed)) {
    refuse("DataError", "The public key does not belong to the private key");
  }
  return { secret: seed, point };
}

function ed25519Public(bytes: Uint8Array): Uint8Array {
  if (bytes.length !== 32) refuse("DataError", "A public key of Ed25519 has 32 bytes");
  return bytes;
}

const ED25519: Encoding = {
  algorithm: { name: "Ed25519" },
  /** id-Ed25519, 1.3.101.112, without parameters. */
  id: { oid: Uint8Array.of(0x2b, 0x65, 0x70), parameters: new Uint8Array(0) },
  ...{ kty: "OKP", crv: "Ed25519", alg: undefined },
  fromRaw: ed25519Public,
  fromPrivate(encoded) {
    const reader = new DerReader(encoded);
    const seed = reader.read(asn1.OCTET_STRING).slice();
    reader.expectEnd();
    return ed25519Pair(seed, null);
  },
  toPrivate: (key) => asn1.der(asn1.OCTET_STRING, key.material),
  fromJwk(jwk) {
    if (jwk["alg"] !== undefined && jwk["alg"] !== "Ed25519" && jwk["alg"] !== "EdDSA") {
      refuse("DataError", "The key's alg is not Ed25519");
    }
    const point = ed25519Public(jwkBytes(jwk, "x"));
    return jwk["d"] === undefined ? { secret: null, point } : ed25519Pair(jwkBytes(jwk, "d"), point);
  },
  toJwk: (point) => ({ kty: "OKP", crv: "Ed25519", x: toBase64Url(point) }),
};

const ed25519: Algorithm = {
  name: "Ed25519",
  sign: () => (key, data) => {
    if (key.type !== "private") refuse("InvalidAccessError", "Signing takes a private key");
    return either(ops.ED25519_SIGN, key.material, data) as Uint8Array;
  },
  verify: () => (key, signature, data) => {
    if (key.type !== "public") refuse("InvalidAccessError", "Verifying takes a public key");
    return either(ops.ED25519_VERIFY, key.material, signature, data) as boolean;
  },
  generateKey: () => (extractable, usages) => {
    checkPairUsages(usages);
    return makePair(ED25519, host.call(ops.ED25519_GENERATE) as [Uint8Array, Uint8Array], extractable, usages);
  },
  importKey: () => (format, data, extractable, usages) =>
    importEncoded(ED25519, format, data, extractable, usages),
  exportKey: (format, key) => exportEncoded(ED25519, format, key),
};

export const ellipticAlgorithms: readonly Algorithm[] = [ecdsa, ed25519];
