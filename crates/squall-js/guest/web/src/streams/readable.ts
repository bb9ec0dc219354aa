// A readable stream without its public face: the state that controllers and readers share.
// https://streams.spec.whatwg.org/#rs-class

import type { ByobReader, DefaultReader } from "./readers.js";
import { react, rejected, resolved } from "./promises.js";

export const READABLE = 0;
export const CLOSED = 1;
export const ERRORED = 2;

/** Who waits for a chunk. Pipes and tees are such themselves, so that a chunk needs no closure. */
export interface ReadRequest {
  chunk(chunk: unknown): void;
  close(): void;
  error(reason: unknown): void;
}

/** Who waits for bytes in a view that it gave. */
export interface ReadIntoRequest {
  chunk(view: ArrayBufferView): void;
  /** Without a view when the stream was cancelled. */
  close(view: ArrayBufferView | undefined): void;
  error(reason: unknown): void;
}

/** Where chunks come from: an object of the program's, or something of the runtime. */
export interface Source {
  /** Without it, nothing is ever asked of the source. */
  readonly pulls: boolean;
  /** Its chunks come with none of the program's functions on the stack. */
  readonly alone?: boolean;
  /** null: the source calls the controller's `pulled` or `fail` when it is done. */
  pull(): Promise<unknown> | null;
  cancel(reason: unknown): Promise<unknown>;
}

/** What `take` gives when no chunk is at hand. */
export const EMPTY = Symbol("empty");

/** What streams, readers and pipes ask of both kinds of controllers. */
export interface Controller {
  readonly source: Source | null;
  /** A chunk that is at hand, or EMPTY. Nobody may be waiting for one. */
  take(): unknown;
  pull(request: ReadRequest): void;
  cancel(reason: unknown): Promise<unknown>;
  fail(reason: unknown): void;
  /** The reader goes. */
  release(): void;
}

export class Readable {
  state = READABLE;
  storedError: unknown = undefined;
  disturbed = false;
  reader: DefaultReader | ByobReader | null = null;
  controller!: Controller;

  // https://streams.spec.whatwg.org/#readable-stream-cancel
  cancel(reason: unknown): Promise<undefined> {
    this.disturbed = true;
    if (this.state === CLOSED) return resolved(undefined);
    if (this.state === ERRORED) return rejected(this.storedError);
    this.close();
    const reader = this.reader;
    if (reader?.isByob) {
      for (const request of reader.requests.drain()) request.close(undefined);
    }
    return react(this.controller.cancel(reason), toUndefined) as Promise<undefined>;
  }

  // https://streams.spec.whatwg.org/#readable-stream-close
  close(): void {
    this.state = CLOSED;
    const reader = this.reader;
    if (reader === null) return;
    reader.streamClosed();
    if (!reader.isByob && reader.requests.length > 0) {
      for (const request of reader.requests.drain()) request.close();
    }
  }

  // https://streams.spec.whatwg.org/#readable-stream-error
  fail(reason: unknown): void {
    this.state = ERRORED;
    this.storedError = reason;
    const reader = this.reader;
    if (reader === null) return;
    reader.streamFailed(reason);
    if (reader.requests.length > 0) {
      for (const request of reader.requests.drain()) request.error(reason);
    }
  }
}

function toUndefined(): undefined {
  return undefined;
}
