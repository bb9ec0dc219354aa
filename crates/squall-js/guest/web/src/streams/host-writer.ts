// Writes what a stream gives to the host: a response's body, or that of a fetch. The chunks need no
// promises.

import { startWithCallbacks } from "../host.js";
import { microtask, noop, react } from "./promises.js";
import type { ReadRequest } from "./readable.js";
import { DefaultReader } from "./readers.js";
import { type ReadableStream, readableOf } from "./readable-stream.js";

export class HostWriter implements ReadRequest {
  readonly #reader: DefaultReader;
  readonly #op: number;
  readonly #target: number;
  readonly #done: (failure: { reason: unknown } | null) => void;
  readonly #readNext = (): void => this.#reader.read(this);
  readonly #writeFailed = (reason: unknown): void => {
    this.stop(reason);
    this.#done({ reason });
  };

  /** op takes (target, bytes) and is answered when there is room for more. The stream gets locked. */
  constructor(stream: ReadableStream, op: number, target: number, done: (failure: { reason: unknown } | null) => void) {
    this.#reader = new DefaultReader(readableOf(stream));
    this.#op = op;
    this.#target = target;
    this.#done = done;
  }

  begin(): void {
    this.#readNext();
  }

  /** Nobody takes what comes: `done` is called by the end that this brings. */
  stop(reason: unknown): void {
    react(this.#reader.cancel(reason), undefined, noop);
  }

  chunk(chunk: unknown): void {
    if (!(chunk instanceof Uint8Array)) {
      this.#writeFailed(new TypeError("The stream of a body gave a chunk that is no Uint8Array"));
    } else if (chunk.length === 0) {
      microtask(this.#readNext);
    } else {
      startWithCallbacks(this.#readNext, this.#writeFailed, this.#op, this.#target, chunk);
    }
  }

  close(): void {
    this.#done(null);
  }

  error(reason: unknown): void {
    this.#done({ reason });
  }
}
