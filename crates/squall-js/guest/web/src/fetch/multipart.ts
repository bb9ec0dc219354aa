// multipart/form-data, written and read.
// https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#multipart-form-data
// https://andreubotella.github.io/multipart-form-data/ (the parser)

import { bytesOfBlob, concatenate } from "../blob.js";
import { File } from "../file.js";
import type { FormEntry } from "../form-data.js";
import { host } from "../host.js";

/** A separator that does not occur in ordinary contents; it is no secret. */
export function makeBoundary(): string {
  let digits = "";
  while (digits.length < 24) digits += Math.random().toString(36).slice(2, 14);
  return `----SquallFormBoundary${digits.slice(0, 24)}`;
}

export function writeMultipart(entries: readonly FormEntry[], boundary: string): Uint8Array {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const push = (piece: Uint8Array): void => {
    pieces.push(piece);
    length += piece.length;
  };
  for (let index = 0; index < entries.length; index += 2) {
    const name = escapeName(normalizeNewlines(entries[index] as string));
    const value = entries[index + 1]!;
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${name}"`;
    if (typeof value === "string") {
      push(host.utf8Encode(`${head}\r\n\r\n${normalizeNewlines(value)}\r\n`));
      continue;
    }
    const type = value.type === "" ? "application/octet-stream" : value.type;
    const file = `; filename="${escapeName(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`;
    push(host.utf8Encode(head + file));
    push(bytesOfBlob(value));
    push(host.utf8Encode("\r\n"));
  }
  push(host.utf8Encode(`--${boundary}--\r\n`));
  return concatenate(pieces, length);
}

function normalizeNewlines(text: string): string {
  return text.replace(/\r\n?|\n/g, "\r\n");
}

function escapeName(name: string): string {
  return name.replace(/[\n\r"]/g, (match) => (match === "\n" ? "%0A" : match === "\r" ? "%0D" : "%22"));
}

/** The entries of a form, or null when the body is malformed. */
export function parseMultipart(bytes: Uint8Array, boundary: string): FormEntry[] | null {
  // One character for each byte: searching a string is native code.
  const body = host.latin1Decode(bytes);
  const delimiter = `--${boundary}`;
  const entries: FormEntry[] = [];
  let position = body.startsWith("\r\n") ? 2 : 0;
  for (;;) {
    if (!body.startsWith(delimiter, position)) return null;
    position += delimiter.length;
    if (body.startsWith("--", position)) {
      const rest = body.slice(position + 2);
      return rest === "" || rest === "\r\n" ? entries : null;
    }
    if (!body.startsWith("\r\n", position)) return null;
    const headers = parsePartHeaders(body, position + 2);
    if (headers === null) return null;
    const end = body.indexOf(`\r\n${delimiter}`, headers.end);
    if (end < 0) return null;
    const content = bytes.subarray(headers.end, end);
    position = end + 2;
    entries.push(headers.name);
    if (headers.filename === null) {
      entries.push(withoutBom(host.utf8Decode(content, false)!));
    } else {
      entries.push(new File([content], headers.filename, { type: headers.type ?? "text/plain" }));
    }
  }
}

interface PartHeaders {
  name: string;
  filename: string | null;
  type: string | null;
  /** Where the content begins. */
  end: number;
}

function parsePartHeaders(body: string, start: number): PartHeaders | null {
  let name: string | null = null;
  let filename: string | null = null;
  let type: string | null = null;
  let position = start;
  for (;;) {
    const lineEnd = body.indexOf("\r\n", position);
    if (lineEnd < 0) return null;
    if (lineEnd === position) {
      return name === null ? null : { name, filename, type, end: position + 2 };
    }
    const line = body.slice(position, lineEnd);
    position = lineEnd + 2;
    const colon = line.indexOf(":");
    if (colon <= 0) return null;
    const header = line.slice(0, colon).trim().toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (header === "content-type") {
      type = value;
    } else if (header === "content-disposition") {
      if (!/^form-data\s*(?:;|$)/i.test(value)) return null;
      name = quotedParameter(value, /;\s*name="([^"]*)"/i);
      filename = quotedParameter(value, /;\s*filename="([^"]*)"/i);
      if (name === null) return null;
    }
  }
}

function quotedParameter(value: string, pattern: RegExp): string | null {
  const match = pattern.exec(value);
  if (match === null) return null;
  const raw = host.utf8Decode(host.latin1Encode(match[1]!)!, false)!;
  return raw.replace(/%0A|%0D|%22/gi, (escape) => String.fromCharCode(parseInt(escape.slice(1), 16)));
}

function withoutBom(text: string): string {
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}
