// JSON Web Keys.
// https://www.rfc-editor.org/rfc/rfc7517, RFC 7518

import { host } from "../host.js";
import type { Dictionary } from "./params.js";
import { refuse } from "./params.js";

declare function atob(text: string): string;
declare function btoa(text: string): string;

export function toBase64Url(bytes: Uint8Array): string {
  return btoa(host.latin1Decode(bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function fromBase64Url(text: string): Uint8Array {
  if (!/^[\w-]*$/.test(text)) refuse("DataError", "A member of the key is no base64url");
  try {
    return host.latin1Encode(atob(text.replaceAll("-", "+").replaceAll("_", "/")))!;
  } catch {
    return refuse("DataError", "A member of the key is no base64url");
  }
}

/** A member that holds bytes. */
export function jwkBytes(jwk: Dictionary, name: string): Uint8Array {
  const value = jwk[name];
  if (value === undefined) refuse("DataError", `The key lacks the member ${name}`);
  return fromBase64Url(`${value}`);
}

/** Checks the members that all kinds of keys have. */
export function checkJwk(
  jwk: Dictionary,
  expected: { kty: string; use: string; alg?: string; usages: readonly string[]; extractable: boolean },
): void {
  if (jwk["kty"] !== expected.kty) refuse("DataError", `The key's kty is not ${expected.kty}`);
  if (expected.usages.length > 0 && jwk["use"] !== undefined && jwk["use"] !== expected.use) {
    refuse("DataError", `The key's use is not ${expected.use}`);
  }
  if (expected.alg !== undefined && jwk["alg"] !== undefined && jwk["alg"] !== expected.alg) {
    refuse("DataError", `The key's alg is not ${expected.alg}`);
  }
  const operations = jwk["key_ops"];
  if (operations !== undefined) {
    if (!Array.isArray(operations)) throw new TypeError("key_ops is a sequence");
    if (new Set(operations).size !== operations.length) refuse("DataError", "key_ops names an operation twice");
    if (!expected.usages.every((usage) => operations.includes(usage))) {
      refuse("DataError", "key_ops does not allow a usage that was asked for");
    }
  }
  if (jwk["ext"] === false && expected.extractable) refuse("DataError", "The key is not extractable");
}

const NAMES = [
  ...["kty", "use", "alg", "crv", "x", "y", "d", "n", "e", "p", "q", "dp", "dq", "qi", "k"],
];

/** The dictionary's members, read once. */
export function readJwk(value: unknown): Dictionary {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    throw new TypeError("A key in the format jwk is an object");
  }
  const given = value as Dictionary;
  const jwk: Dictionary = {};
  for (const name of NAMES) if (given[name] !== undefined) jwk[name] = `${given[name]}`;
  if (given["ext"] !== undefined) jwk["ext"] = Boolean(given["ext"]);
  const operations = given["key_ops"];
  if (operations !== undefined) jwk["key_ops"] = Array.from(operations as Iterable<unknown>, (item) => `${item}`);
  return jwk;
}
