// CompressionStream and DecompressionStream: the host keeps the state, chunks go through it.
// https://compression.spec.whatwg.org/

import { viewBytes } from "./blob.js";
import { call, start } from "./host.js";
import { finishInterface } from "./interface.js";
import { COMPRESSION_NEW, COMPRESSION_WRITE } from "./ops.js";
import { react } from "./streams/promises.js";
import type { ReadableStream } from "./streams/readable-stream.js";
import type { Transform, Transformer } from "./streams/transform.js";
import { TransformEnds } from "./streams/transform-stream.js";
import type { WritableStream } from "./streams/writable-stream.js";
import { enumeration, requireArguments } from "./webidl.js";

const FORMATS = ["brotli", "deflate", "deflate-raw", "gzip"];
/** Input that is longer is worked on beside the function. */
const LARGEST_AT_ONCE = 16_384;
const NO_BYTES = new Uint8Array(0);
const NOT_BEGUN = -1;

class Codec implements Transformer {
  readonly #format: string;
  readonly #compresses: boolean;
  /** The host's state belongs to a request, so it is made when there is something to do. */
  #handle = NOT_BEGUN;

  constructor(format: string, compresses: boolean) {
    this.#format = format;
    this.#compresses = compresses;
  }

  transform(chunk: unknown, transform: Transform): Promise<unknown> | null {
    return this.#write(bytesOf(chunk), false, transform);
  }

  flush(transform: Transform): Promise<unknown> | null {
    return this.#write(NO_BYTES, true, transform);
  }

  cancel(): null {
    return null;
  }

  #write(bytes: Uint8Array, last: boolean, transform: Transform): Promise<unknown> | null {
    if (this.#handle === NOT_BEGUN) this.#handle = call(COMPRESSION_NEW, this.#format, this.#compresses) as number;
    if (bytes.length <= LARGEST_AT_ONCE) {
      enqueue(call(COMPRESSION_WRITE, this.#handle, bytes, last) as Result, transform);
      return null;
    }
    return react(start(COMPRESSION_WRITE, this.#handle, bytes, last), (result: Result) => enqueue(result, transform));
  }
}

type Result = Uint8Array | [Uint8Array];

function enqueue(result: Result, transform: Transform): void {
  const isWhole = result instanceof Uint8Array;
  const bytes = isWhole ? result : result[0];
  if (bytes.length > 0) transform.enqueue(bytes);
  if (!isWhole) throw new TypeError("The input goes on behind the end of the compressed data");
}

function bytesOf(chunk: unknown): Uint8Array {
  const bytes = typeof chunk === "object" && chunk !== null ? viewBytes(chunk) : null;
  if (bytes === null || !(bytes.buffer instanceof ArrayBuffer)) {
    throw new TypeError("The chunk is no ArrayBuffer and no view of one");
  }
  return bytes;
}

function makeEnds(format: unknown, compresses: boolean): TransformEnds {
  return new TransformEnds(new Codec(enumeration(format, FORMATS, "the format"), compresses));
}

export class CompressionStream {
  #ends: TransformEnds;

  constructor(format: unknown) {
    requireArguments(arguments.length, 1, "CompressionStream");
    this.#ends = makeEnds(format, true);
  }

  get readable(): ReadableStream {
    return this.#ends.readable;
  }

  get writable(): WritableStream {
    return this.#ends.writable;
  }
}

finishInterface(CompressionStream);

export class DecompressionStream {
  #ends: TransformEnds;

  constructor(format: unknown) {
    requireArguments(arguments.length, 1, "DecompressionStream");
    this.#ends = makeEnds(format, false);
  }

  get readable(): ReadableStream {
    return this.#ends.readable;
  }

  get writable(): WritableStream {
    return this.#ends.writable;
  }
}

finishInterface(DecompressionStream);
