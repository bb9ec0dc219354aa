import { deepEqual, equal } from "node:assert/strict";
import { blake3 } from "@noble/hashes/blake3.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
import { sha384, sha256, sha512 } from "@noble/hashes/sha2.js";
import { sha3_256 } from "@noble/hashes/sha3.js";
import { bytesToHex, randomBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { program } from "./program";

const text = utf8ToBytes("wind and rain");
const atTopLevel = bytesToHex(sha256(text));

async function digest(name: string, bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest(name, bytes));
}

async function derive(algorithm: object, secret: Uint8Array): Promise<Uint8Array> {
  const key = await crypto.subtle.importKey("raw", secret, (algorithm as { name: string }).name, false, ["deriveBits"]);
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm as never, key, 256));
}

export default program(
  async () => {
    const large = new Uint8Array(100_000).map((_, index) => index);
    for (const bytes of [new Uint8Array(0), text, large]) {
      deepEqual(sha256(bytes), await digest("SHA-256", bytes));
      deepEqual(sha384(bytes), await digest("SHA-384", bytes));
      deepEqual(sha512(bytes), await digest("SHA-512", bytes));
    }
    equal(atTopLevel, bytesToHex(await digest("SHA-256", text)));

    const secret = utf8ToBytes("a key");
    const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    deepEqual(hmac(sha256, secret, text), new Uint8Array(await crypto.subtle.sign("HMAC", key, text)));

    const salt = utf8ToBytes("salt");
    const stretched = { name: "PBKDF2", hash: "SHA-256", salt, iterations: 500 };
    deepEqual(pbkdf2(sha256, secret, salt, { c: 500, dkLen: 32 }), await derive(stretched, secret));
    const expanded = { name: "HKDF", hash: "SHA-256", salt, info: text };
    deepEqual(hkdf(sha256, secret, salt, text, 32), await derive(expanded, secret));

    // The test vectors of the algorithms for no input.
    equal(bytesToHex(sha3_256(new Uint8Array(0))), "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a");
    equal(bytesToHex(blake3(new Uint8Array(0))), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
  },
  () => [bytesToHex(randomBytes(16))],
);
