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

export function blobAt(url: string): Blob | null {
  const hash = url.indexOf("#");
  return blobs.get(hash < 0 ? url : url.slice(0, hash)) ?? null;
}
