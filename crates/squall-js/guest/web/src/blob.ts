// Blob: bytes in memory that never change, so slices share them.
// https://w3c.github.io/FileAPI/#blob-section

import { host } from "./host.js";
import { finishInterface, setLength } from "./interface.js";
import { clamp, sequence, usvString } from "./webidl.js";
import { streamOfWhole } from "./streams/whole-stream.js";
import type { ReadableStream } from "./streams/readable-stream.js";

export let isBlob: (value: object) => value is Blob;
/** The bytes themselves, not a copy: they must not be changed or transferred. */
export let bytesOfBlob: (blob: Blob) => Uint8Array;
/** A Blob over bytes that nobody else changes; `type` is used as it is. */
export let makeBlob: (bytes: Uint8Array, type: string) => Blob;

const EMPTY = new Uint8Array(0);

export class Blob {
  #bytes: Uint8Array;
  #type: string;

  static {
    isBlob = (value): value is Blob => #bytes in value;
    bytesOfBlob = (blob) => blob.#bytes;
    makeBlob = (bytes, type) => {
      const blob = new Blob();
      blob.#bytes = bytes;
      blob.#type = type;
      return blob;
    };
  }

  constructor(parts: unknown = undefined, options: unknown = undefined) {
    const pieces = parts === undefined ? [] : sequence(parts, "The parts of a Blob", convertPart);
    const { endings, type } = readOptions(options);
    this.#bytes = pieces.length === 0 ? EMPTY : joinParts(pieces, endings);
    this.#type = normalizeType(type);
  }

  get size(): number {
    return this.#bytes.length;
  }

  get type(): string {
    return this.#type;
  }

  slice(start: unknown = undefined, end: unknown = undefined, contentType: unknown = undefined): Blob {
    const size = this.#bytes.length;
    const from = start === undefined ? 0 : clampedOffset(start, size);
    const to = end === undefined ? size : clampedOffset(end, size);
    const type = contentType === undefined ? "" : normalizeType(`${contentType}`);
    return makeBlob(this.#bytes.subarray(from, Math.max(from, to)), type);
  }

  stream(): ReadableStream {
    return streamOfWhole(this.#bytes);
  }

  async text(): Promise<string> {
    const text = host.utf8Decode(this.#bytes, false)!;
    return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  }

  async arrayBuffer(): Promise<ArrayBuffer> {
    return this.#bytes.slice().buffer as ArrayBuffer;
  }

  async bytes(): Promise<Uint8Array> {
    return this.#bytes.slice();
  }
}

finishInterface(Blob);
setLength(Blob.prototype, "slice", 0);

function convertPart(part: unknown): Uint8Array | string {
  if (typeof part === "string") return part.toWellFormed();
  if (typeof part === "object" && part !== null) {
    if (isBlob(part)) return bytesOfBlob(part);
    const bytes = viewBytes(part);
    if (bytes !== null) return bytes;
  }
  return usvString(part);
}

/**
 * The bytes that an ArrayBuffer or a view shows, or null for anything else. Always a plain
 * Uint8Array: the slice of a Buffer, say, is no copy.
 */
export function viewBytes(value: object): Uint8Array | null {
  if (Object.getPrototypeOf(value) === Uint8Array.prototype) return value as Uint8Array;
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (isArrayBuffer(value)) return new Uint8Array(value);
  return null;
}

const byteLengthOf = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength")!.get!;

function isArrayBuffer(value: object): value is ArrayBuffer {
  if (value instanceof ArrayBuffer) return true;
  if (Object.prototype.toString.call(value) !== "[object ArrayBuffer]") return false;
  try {
    byteLengthOf.call(value);
    return true;
  } catch {
    return false;
  }
}

function readOptions(options: unknown): { endings: string; type: string } {
  if (options === undefined || options === null) return { endings: "transparent", type: "" };
  if (typeof options !== "object" && typeof options !== "function") {
    throw new TypeError("The options of a Blob are given as an object");
  }
  const { endings, type } = options as { endings?: unknown; type?: unknown };
  const endingsText = endings === undefined ? "transparent" : `${endings}`;
  if (endingsText !== "transparent" && endingsText !== "native") {
    throw new TypeError(`endings is "transparent" or "native", not ${JSON.stringify(endingsText)}`);
  }
  return { endings: endingsText, type: type === undefined ? "" : `${type}` };
}

function joinParts(parts: readonly unknown[], endings: string): Uint8Array {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (const part of parts) {
    let piece: Uint8Array;
    if (typeof part === "string") {
      piece = host.utf8Encode(endings === "native" ? part.replace(/\r\n?/g, "\n") : part);
    } else {
      piece = part as Uint8Array;
    }
    pieces.push(piece);
    length += piece.length;
  }
  return concatenate(pieces, length);
}

/** One new array of all pieces. */
export function concatenate(pieces: readonly Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let offset = 0;
  for (const piece of pieces) {
    whole.set(piece, offset);
    offset += piece.length;
  }
  return whole;
}

function normalizeType(type: string): string {
  return /[^\x20-\x7e]/.test(type) ? "" : type.toLowerCase();
}

/** [Clamp] long long, counted from the end when negative. */
function clampedOffset(value: unknown, size: number): number {
  const offset = clamp(value, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  return offset < 0 ? Math.max(size + offset, 0) : Math.min(offset, size);
}
