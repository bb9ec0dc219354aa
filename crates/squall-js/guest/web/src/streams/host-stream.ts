// A body that the host has, as a byte stream. Nothing is asked of the host until somebody reads,
// and until then the body can be handed on by its handle.

import { cancel, host, type HostValue, startWithCallbacks } from "../host.js";
import { BODY_CANCEL, BODY_READ } from "../ops.js";
import { type ByteController, makeByteStream } from "./byte-controller.js";
import { promiseOf } from "./promises.js";
import { READABLE, type Source } from "./readable.js";
import { DefaultReader } from "./readers.js";
import { type ReadableStream, readableOf, setOpener, wrapReadable } from "./readable-stream.js";
import { WholeSource } from "./whole-stream.js";

const LARGEST_CHUNK = 65_536;
/** No operation. */
const NOTHING = 0;

class HostSource implements Source {
  readonly pulls = true;
  readonly alone = true;
  readonly handle: number;
  controller!: ByteController;
  /** The operation that brings the next chunk; it holds on to the body. */
  #reading = NOTHING;
  readonly #onChunk = (bytes: HostValue): void => this.#take(bytes as Uint8Array<ArrayBuffer> | null);
  readonly #onFailure = (reason: unknown): void => {
    this.#reading = NOTHING;
    this.controller.fail(reason);
  };

  constructor(handle: number) {
    this.handle = handle;
  }

  pull(): null {
    this.#reading = startWithCallbacks(this.#onChunk, this.#onFailure, BODY_READ, this.handle, LARGEST_CHUNK);
    return null;
  }

  #take(bytes: Uint8Array<ArrayBuffer> | null): void {
    const { controller } = this;
    this.#reading = NOTHING;
    // It ended meanwhile.
    if (controller.stream.state !== READABLE) return;
    if (bytes !== null) {
      if (bytes.length > 0) controller.enqueueOwned(bytes);
      controller.pulled();
      // An empty chunk answers nobody.
      if (bytes.length === 0) controller.pullIfNeeded();
      return;
    }
    controller.close();
    if (controller.pending.length > 0) controller.respond(0);
  }

  cancel(): Promise<unknown> {
    if (this.#reading !== NOTHING) cancel(this.#reading);
    host.call(BODY_CANCEL, this.handle);
    return promiseOf(undefined);
  }
}

export function createHostStream(handle: number): ReadableStream {
  return wrapReadable(handle);
}

setOpener({
  open(unread) {
    const source = typeof unread === "number" ? new HostSource(unread) : new WholeSource(unread);
    source.controller = makeByteStream(source);
    return source.controller.stream;
  },
  unread(readable) {
    if (readable.disturbed || readable.reader !== null || readable.state !== READABLE) return null;
    const { source } = readable.controller;
    if (source instanceof HostSource) return source.handle;
    return source instanceof WholeSource ? source.content : null;
  },
  take(readable) {
    readable.disturbed = true;
    new DefaultReader(readable);
  },
});

/** Ends a stream before its time. */
export function failStream(stream: ReadableStream, reason: unknown): void {
  const { controller } = readableOf(stream);
  if (controller.source instanceof HostSource) void controller.source.cancel();
  controller.fail(reason);
}
