// application/x-www-form-urlencoded, read and written.
// https://url.spec.whatwg.org/#application/x-www-form-urlencoded

import { host } from "../host.js";

/** A flat list of names and values; `query` has no leading question mark. */
export function parseForm(query: string): string[] {
  const list: string[] = [];
  if (query === "") return list;
  const sequences = query.split("&");
  for (let index = 0; index < sequences.length; index++) {
    const sequence = sequences[index]!;
    if (sequence === "") continue;
    const equals = sequence.indexOf("=");
    if (equals < 0) list.push(decode(sequence), "");
    else list.push(decode(sequence.slice(0, equals)), decode(sequence.slice(equals + 1)));
  }
  return list;
}

export function serializeForm(list: readonly string[]): string {
  let text = "";
  for (let index = 0; index < list.length; index += 2) {
    if (index > 0) text += "&";
    text += `${encode(list[index]!)}=${encode(list[index + 1]!)}`;
  }
  return text;
}

function decode(text: string): string {
  if (text.indexOf("+") >= 0) text = text.replaceAll("+", " ");
  if (text.indexOf("%") < 0) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return host.utf8Decode(percentDecode(host.utf8Encode(text)), false)!;
  }
}

/** Bytes with every well-formed %XX replaced by its byte. */
export function percentDecode(bytes: Uint8Array): Uint8Array {
  const decoded = new Uint8Array(bytes.length);
  let length = 0;
  for (let index = 0; index < bytes.length; index++) {
    let byte = bytes[index]!;
    if (byte === 0x25 && index + 2 < bytes.length) {
      const high = hexDigit(bytes[index + 1]!);
      const low = hexDigit(bytes[index + 2]!);
      if (high >= 0 && low >= 0) {
        byte = high * 16 + low;
        index += 2;
      }
    }
    decoded[length++] = byte;
  }
  return decoded.subarray(0, length);
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

const NEEDS_ENCODING = /[^*\-.0-9A-Z_a-z]/;
const LEFT_BY_COMPONENT = /[!'()~]|%20/g;

function encode(text: string): string {
  if (!NEEDS_ENCODING.test(text)) return text;
  // encodeURIComponent refuses lone surrogates and leaves a few characters that forms escape.
  return encodeURIComponent(text.toWellFormed()).replace(LEFT_BY_COMPONENT, escapeRest);
}

function escapeRest(match: string): string {
  return match === "%20" ? "+" : `%${match.charCodeAt(0).toString(16).toUpperCase()}`;
}
