// Subresource integrity: whether a body is what the caller expects it to be.
// https://w3c.github.io/webappsec-subresource-integrity/#does-response-match-metadatalist

import { decodeBase64 } from "../base64.js";
import { start } from "../host.js";
import { DIGEST } from "../ops.js";

/** From the weakest to the strongest. */
const HASHES = ["SHA-256", "SHA-384", "SHA-512"];
const EXPECTATION = /^sha(256|384|512)-([A-Za-z0-9+/_-]+={0,2})(?:\?.*)?$/i;

/** Resolves to whether one of the digests of the strongest hash that is given fits. */
export async function matchesIntegrity(bytes: Uint8Array, integrity: string): Promise<boolean> {
  let strongest = -1;
  let expected: Uint8Array[] = [];
  for (const item of integrity.split(/[\t\n\f\r ]+/)) {
    const match = EXPECTATION.exec(item);
    if (match === null) continue;
    const strength = HASHES.indexOf(`SHA-${match[1]}`);
    if (strength < strongest) continue;
    if (strength > strongest) expected = [];
    strongest = strength;
    // Lenient, because both alphabets are used, with padding and without.
    expected.push(decodeBase64(match[2]!, true)!);
  }
  // What nobody understands expects nothing.
  if (strongest < 0) return true;
  const digest = (await start(DIGEST, HASHES[strongest]!, bytes)) as Uint8Array;
  return expected.some((wanted) => sameBytes(wanted, digest));
}

function sameBytes(first: Uint8Array, second: Uint8Array): boolean {
  return first.length === second.length && first.every((byte, index) => byte === second[index]);
}
