// The encodings of Buffer: strings to bytes and back.

import { decodeBase64, encodeBase64 } from "../base64.js";
import { host } from "../host.js";

export type Encoding = "utf8" | "utf16le" | "latin1" | "ascii" | "base64" | "base64url" | "hex";

const NAMES: Record<string, Encoding> = {
  ...{ utf8: "utf8", "utf-8": "utf8", utf16le: "utf16le", "utf-16le": "utf16le", ucs2: "utf16le", "ucs-2": "utf16le" },
  ...{ latin1: "latin1", binary: "latin1", ascii: "ascii", base64: "base64", base64url: "base64url", hex: "hex" },
};

export function isEncoding(name: unknown): boolean {
  return typeof name === "string" && name !== "" && encodingNamed(name) !== undefined;
}

function encodingNamed(name: string): Encoding | undefined {
  if (Object.hasOwn(NAMES, name)) return NAMES[name];
  const lower = name.toLowerCase();
  return Object.hasOwn(NAMES, lower) ? NAMES[lower] : undefined;
}

export function encodingOf(name: unknown): Encoding {
  if (name === undefined || name === null || name === "") return "utf8";
  const encoding = encodingNamed(String(name));
  if (encoding === undefined) {
    throw Object.assign(new TypeError(`Unknown encoding: ${String(name)}`), { code: "ERR_UNKNOWN_ENCODING" });
  }
  return encoding;
}

export function encode(text: string, encoding: Encoding): Uint8Array {
  switch (encoding) {
    case "utf8":
      return host.utf8Encode(text);
    case "latin1":
    case "ascii":
      return host.latin1Encode(text) ?? lowBytes(text);
    case "base64":
    case "base64url":
      return decodeBase64(text, true)!;
    case "hex":
      return encodeHex(text);
    case "utf16le":
      return encodeUtf16(text);
  }
}

export function decode(bytes: Uint8Array, encoding: Encoding): string {
  switch (encoding) {
    case "utf8":
      return host.utf8Decode(bytes, false)!;
    case "latin1":
      return host.latin1Decode(bytes);
    case "ascii":
      return host.latin1Decode(bytes.map((byte) => byte & 0x7f));
    case "base64":
      return encodeBase64(bytes, false);
    case "base64url":
      return encodeBase64(bytes, true);
    case "hex":
      return decodeHex(bytes);
    case "utf16le":
      return decodeUtf16(bytes);
  }
}

export function byteLength(text: string, encoding: Encoding): number {
  switch (encoding) {
    case "latin1":
    case "ascii":
      return text.length;
    case "utf16le":
      return text.length * 2;
    case "hex":
      return text.length >>> 1;
    default:
      return encode(text, encoding).length;
  }
}

function lowBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) bytes[index] = text.charCodeAt(index);
  return bytes;
}

const HEX: string[] = [];
for (let byte = 0; byte < 256; byte++) HEX.push(byte.toString(16).padStart(2, "0"));

function decodeHex(bytes: Uint8Array): string {
  let text = "";
  for (let index = 0; index < bytes.length; index++) text += HEX[bytes[index]!];
  return text;
}

/** Up to the first pair that is no hexadecimal number. */
function encodeHex(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length >>> 1);
  for (let index = 0; index < bytes.length; index++) {
    const high = hexDigit(text.charCodeAt(index * 2));
    const low = hexDigit(text.charCodeAt(index * 2 + 1));
    if (high < 0 || low < 0) return bytes.slice(0, index);
    bytes[index] = high * 16 + low;
  }
  return bytes;
}

function hexDigit(unit: number): number {
  if (unit >= 0x30 && unit <= 0x39) return unit - 0x30;
  const lower = unit | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function encodeUtf16(text: string): Uint8Array {
  const units = new Uint16Array(text.length);
  for (let index = 0; index < text.length; index++) units[index] = text.charCodeAt(index);
  return new Uint8Array(units.buffer);
}

/** Arguments of one call: engines limit their number. */
const UNITS_AT_ONCE = 4096;

function decodeUtf16(bytes: Uint8Array): string {
  // A copy, because a view of 16-bit units needs an even offset.
  const copy = new Uint8Array(bytes.length & ~1);
  copy.set(bytes.subarray(0, copy.length));
  const units = new Uint16Array(copy.buffer);
  let text = "";
  for (let index = 0; index < units.length; index += UNITS_AT_ONCE) {
    text += String.fromCharCode.apply(null, units.subarray(index, index + UNITS_AT_ONCE) as unknown as number[]);
  }
  return text;
}
