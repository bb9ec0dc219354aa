// All that bodies need of streams, in one place.

import { concatenate } from "../blob.js";
import { structuredClone } from "../structured-clone.js";
import { createHostStream, failStream } from "../streams/host-stream.js";
import { markHandled } from "../streams/promises.js";
import type { Readable, ReadRequest } from "../streams/readable.js";
import { isDisturbed, ReadableStream, readableOf, takeUnread, teeReadable } from "../streams/readable-stream.js";
import { DefaultReader } from "../streams/readers.js";
import { streamOfWhole } from "../streams/whole-stream.js";

export { createHostStream, failStream, isDisturbed, ReadableStream, streamOfWhole, takeUnread };

export function isReadableStream(value: unknown): value is ReadableStream {
  return value instanceof ReadableStream;
}

/** Whoever has its reader hears of the end. */
export function cancelStream(stream: ReadableStream, reason: unknown): void {
  markHandled(readableOf(stream).cancel(reason));
}

/** Reads a stream to its end. Chunks that are no bytes fail, as in a body. */
export function readAllBytes(
  stream: ReadableStream,
  resolve: (bytes: Uint8Array) => void,
  reject: (reason: unknown) => void,
): void {
  new Everything(readableOf(stream), resolve, reject).read();
}

/** Asks for chunk after chunk, with no promise for each of them. */
class Everything implements ReadRequest {
  readonly #reader: DefaultReader;
  readonly #resolve: (bytes: Uint8Array) => void;
  readonly #reject: (reason: unknown) => void;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  /** A chunk that is at hand comes within `read`: going on from there would use up the stack. */
  #within = false;
  #again = false;

  constructor(readable: Readable, resolve: (bytes: Uint8Array) => void, reject: (reason: unknown) => void) {
    this.#reader = new DefaultReader(readable);
    this.#resolve = resolve;
    this.#reject = reject;
  }

  read(): void {
    this.#within = true;
    do {
      this.#again = false;
      this.#reader.read(this);
    } while (this.#again);
    this.#within = false;
  }

  chunk(chunk: unknown): void {
    if (!(chunk instanceof Uint8Array)) {
      this.#reject(new TypeError("A body's stream gave a chunk that is no Uint8Array"));
      return;
    }
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    if (this.#within) this.#again = true;
    else this.read();
  }

  close(): void {
    this.#resolve(this.#chunks.length === 1 ? this.#chunks[0]! : concatenate(this.#chunks, this.#length));
  }

  error(reason: unknown): void {
    this.#reject(reason);
  }
}

/** Two streams of one, for two bodies: neither sees what is done to the other's chunks. */
export function teeForBodies(stream: ReadableStream): [ReadableStream, ReadableStream] {
  return teeReadable(readableOf(stream), structuredClone);
}

/** A stream that gives what another one gives, which is locked from now on. */
// https://streams.spec.whatwg.org/#readablestream-create-a-proxy
export function proxyOf(stream: ReadableStream): ReadableStream {
  const reader = stream.getReader();
  return new ReadableStream(
    {
      async pull(controller: { enqueue(chunk: unknown): void; close(): void }): Promise<void> {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason: unknown) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
