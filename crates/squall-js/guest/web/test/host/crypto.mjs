// The operations of crypto, with node's own.

import * as crypto from "node:crypto";
import { promisify } from "node:util";
import { Refusal } from "./refusal.mjs";

const nodeHash = (hash) => hash.replace("SHA-", "sha");
const bytes = (buffer) => new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length).slice();
const aesName = (key, mode) => `aes-${key.length * 8}-${mode}`;

function decipher(work) {
  try {
    return bytes(work());
  } catch {
    throw new Refusal("OperationError", "the data can not be decrypted");
  }
}

function gcm(create, key, iv, tagBytes) {
  return create(aesName(key, "gcm"), key, iv, { authTagLength: tagBytes });
}

const rsaPrivate = (key) => crypto.createPrivateKey({ key: Buffer.from(key), format: "der", type: "pkcs1" });
const rsaPublic = (key) => crypto.createPublicKey({ key: Buffer.from(key), format: "der", type: "pkcs1" });

function rsaOptions(padding, key, saltLength) {
  if (padding === "pkcs1") return { key, padding: crypto.constants.RSA_PKCS1_PADDING };
  return { key, padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength };
}

const curves = { "P-256": { name: "prime256v1", bytes: 32 }, "P-384": { name: "secp384r1", bytes: 48 } };

function ecPoint(curve, point) {
  try {
    return bytes(crypto.ECDH.convertKey(point, curves[curve].name, undefined, undefined, "uncompressed"));
  } catch {
    throw new Refusal("DataError", "not a point of the curve");
  }
}

function ecPublic(curve, scalar) {
  const { name } = curves[curve];
  try {
    const exchange = crypto.createECDH(name);
    exchange.setPrivateKey(scalar);
    return bytes(exchange.getPublicKey());
  } catch {
    throw new Refusal("DataError", "not a private key of the curve");
  }
}

function ecJwk(curve, point, d) {
  const size = curves[curve].bytes;
  const url = (part) => Buffer.from(part).toString("base64url");
  const jwk = { kty: "EC", crv: curve, x: url(point.subarray(1, 1 + size)), y: url(point.subarray(1 + size)) };
  return d === undefined ? jwk : { ...jwk, d: url(d) };
}

const ED25519_PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");
const ED25519_SPKI = Buffer.from("302a300506032b6570032100", "hex");
const edPrivate = (seed) =>
  crypto.createPrivateKey({ key: Buffer.concat([ED25519_PKCS8, seed]), format: "der", type: "pkcs8" });
const edPublic = (point) =>
  crypto.createPublicKey({ key: Buffer.concat([ED25519_SPKI, point]), format: "der", type: "spki" });
const rawPublic = (key) => bytes(key.export({ format: "der", type: "spki" }).subarray(ED25519_SPKI.length));

/** Points of small order and encodings that are not canonical make any signature invalid. */
const FIELD = 2n ** 255n - 19n;
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const littleEndian = (part) => BigInt(`0x${Buffer.from(part).reverse().toString("hex")}`);
const SMALL_ORDER = [
  0n,
  1n,
  FIELD - 1n,
  2707385501144840649318225287225658788936804267575313519463743609750303021540n,
  55188659117513257062467267217118295137698188065244968500265048394206261417927n,
];
function isSoundPoint(point) {
  const y = littleEndian(point) & (2n ** 255n - 1n);
  return y < FIELD && !SMALL_ORDER.includes(y);
}

function verifyEd25519(point, signature, data) {
  if (signature.length !== 64 || !isSoundPoint(point) || !isSoundPoint(signature.subarray(0, 32))) return false;
  if (littleEndian(signature.subarray(32)) >= ORDER) return false;
  try {
    return crypto.verify(null, data, edPublic(point), signature);
  } catch {
    return false;
  }
}

const generateKeyPair = promisify(crypto.generateKeyPair);

/** Operation number to function; those with a promise are started, never called. */
export const cryptoOperations = {
  120: (hash, data) => bytes(crypto.createHash(nodeHash(hash)).update(data).digest()),
  121: (hash, key, data) => bytes(crypto.createHmac(nodeHash(hash), key).update(data).digest()),
  122(hash, key, signature, data) {
    const expected = crypto.createHmac(nodeHash(hash), key).update(data).digest();
    return expected.length === signature.length && crypto.timingSafeEqual(expected, signature);
  },
  123(key, iv, data) {
    const cipher = crypto.createCipheriv(aesName(key, "cbc"), key, iv);
    return bytes(Buffer.concat([cipher.update(data), cipher.final()]));
  },
  124: (key, iv, data) =>
    decipher(() => {
      const cipher = crypto.createDecipheriv(aesName(key, "cbc"), key, iv);
      return Buffer.concat([cipher.update(data), cipher.final()]);
    }),
  125(key, iv, data, additional, tagBytes) {
    const cipher = gcm(crypto.createCipheriv, key, iv, tagBytes);
    cipher.setAAD(additional);
    return bytes(Buffer.concat([cipher.update(data), cipher.final(), cipher.getAuthTag()]));
  },
  126: (key, iv, data, additional, tagBytes) =>
    decipher(() => {
      const cipher = gcm(crypto.createDecipheriv, key, iv, tagBytes);
      cipher.setAAD(additional);
      const end = data.length - tagBytes;
      cipher.setAuthTag(data.subarray(end));
      return Buffer.concat([cipher.update(data.subarray(0, end)), cipher.final()]);
    }),
  127(hash, key, salt, info, length) {
    // node refuses an empty key or a long info; RFC 5869 in HMACs has no such limits.
    const mac = (secret, ...parts) => {
      const hmac = crypto.createHmac(nodeHash(hash), secret);
      for (const part of parts) hmac.update(part);
      return hmac.digest();
    };
    const size = crypto.createHash(nodeHash(hash)).digest().length;
    if (length > 255 * size) throw new Refusal("OperationError", "HKDF gives no more than 255 blocks");
    const pseudoRandom = mac(salt.length === 0 ? Buffer.alloc(size) : salt, key);
    const blocks = [];
    let previous = Buffer.alloc(0);
    for (let index = 1; blocks.length * size < length; index++) {
      previous = mac(pseudoRandom, previous, info, Buffer.from([index]));
      blocks.push(previous);
    }
    return bytes(Buffer.concat(blocks).subarray(0, length));
  },
  128: async (hash, password, salt, iterations, length) =>
    bytes(await promisify(crypto.pbkdf2)(password, salt, iterations, length, nodeHash(hash))),
  async 130(modulusLength, exponent) {
    const publicExponent = Number(`0x${Buffer.from(exponent).toString("hex")}`);
    const pair = await generateKeyPair("rsa", { modulusLength, publicExponent });
    const encoding = { format: "der", type: "pkcs1" };
    return [bytes(pair.publicKey.export(encoding)), bytes(pair.privateKey.export(encoding))];
  },
  131(isPrivate, key) {
    try {
      (isPrivate ? rsaPrivate : rsaPublic)(key);
      return null;
    } catch {
      throw new Refusal("DataError", "not a sound RSA key");
    }
  },
  async 132(padding, hash, key, saltLength, data) {
    try {
      return bytes(crypto.sign(nodeHash(hash), data, rsaOptions(padding, rsaPrivate(key), saltLength)));
    } catch (error) {
      throw new Refusal("OperationError", error.message);
    }
  },
  async 133(padding, hash, key, saltLength, signature, data) {
    return crypto.verify(nodeHash(hash), data, rsaOptions(padding, rsaPublic(key), saltLength), signature);
  },
  140(curve) {
    const exchange = crypto.createECDH(curves[curve].name);
    const point = bytes(exchange.generateKeys());
    const scalar = Buffer.alloc(curves[curve].bytes);
    const key = exchange.getPrivateKey();
    key.copy(scalar, scalar.length - key.length);
    return [point, bytes(scalar)];
  },
  141: ecPublic,
  142: ecPoint,
  async 143(curve, hash, scalar, data) {
    const jwk = ecJwk(curve, ecPublic(curve, scalar), scalar);
    const key = crypto.createPrivateKey({ key: jwk, format: "jwk" });
    return bytes(crypto.sign(nodeHash(hash), data, { key, dsaEncoding: "ieee-p1363" }));
  },
  async 144(curve, hash, point, signature, data) {
    const key = crypto.createPublicKey({ key: ecJwk(curve, point), format: "jwk" });
    return crypto.verify(nodeHash(hash), data, { key, dsaEncoding: "ieee-p1363" }, signature);
  },
  145() {
    const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
    const seed = privateKey.export({ format: "der", type: "pkcs8" }).subarray(ED25519_PKCS8.length);
    return [rawPublic(publicKey), bytes(seed)];
  },
  146: (seed) => rawPublic(crypto.createPublicKey(edPrivate(seed))),
  147: (seed, data) => bytes(crypto.sign(null, data, edPrivate(seed))),
  148: verifyEd25519,
};
