// blob: URLs: names for blobs that live as long as the instance.
// https://w3c.github.io/FileAPI/#url

import { type Blob, isBlob } from "../blob.js";
import { randomUuid } from "../crypto/random.js";

const blobs = new Map<string, Blob>();

export function createObjectURL(object: unknown): string {
  if (typeof object !== "object" || object === null || !isBlob(object)) {
    throw new TypeError("URL.createObjectURL takes a Blob");
  }
  const { location } = globalThis as { location?: { origin?: unknown } };
  const origin = typeof location?.origin === "string" ? location.origin : "null";
  const url = `blob:${origin}/${randomUuid()}`;
  blobs.set(url, object);
  return url;
}

export function revokeObjectURL(url: unknown): void {
  blobs.delete(`${url}`);
}

/** What a request for a blob: URL will get, even when the URL is revoked before it is sent. */
const held = new WeakMap<object, Blob>();

/** For a new request: `source` is the one that it was made of. */
export function holdBlob(request: object, url: string, source: object | null): void {
  const hash = url.indexOf("#");
  const blob = source === null ? blobs.get(hash < 0 ? url : url.slice(0, hash)) : held.get(source);
  if (blob !== undefined) held.set(request, blob);
}

export function heldBlob(request: object): Blob | null {
  return held.get(request) ?? null;
}
