// data: URLs, which fetch answers without the host.
// https://fetch.spec.whatwg.org/#data-url-processor

import { host } from "../host.js";
import { percentDecode } from "../url/form-encoding.js";
import { parseMimeType, serializeMimeType } from "./mime-type.js";

export function readDataUrl(url: string): { type: string; bytes: Uint8Array } | null {
  const hash = url.indexOf("#");
  const input = url.slice("data:".length, hash < 0 ? undefined : hash);
  const comma = input.indexOf(",");
  if (comma < 0) return null;
  let type = input.slice(0, comma).replace(/^[ ]+|[ ]+$/g, "");
  let bytes = percentDecode(host.utf8Encode(input.slice(comma + 1)));
  const base64 = /; *base64$/i.exec(type);
  if (base64 !== null) {
    type = type.slice(0, base64.index);
    try {
      bytes = host.latin1Encode(atob(host.latin1Decode(bytes)))!;
    } catch {
      return null;
    }
  }
  if (type.startsWith(";")) type = `text/plain${type}`;
  const parsed = parseMimeType(type);
  return { type: parsed === null ? "text/plain;charset=US-ASCII" : serializeMimeType(parsed), bytes };
}

declare function atob(text: string): string;
