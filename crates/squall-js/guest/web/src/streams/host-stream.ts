// A body that the host has, as a byte stream. Nothing is asked of the host until somebody reads,
// and until then the body can be handed on by its handle.

import { cancel, host, type HostValue, startWithCallbacks } from "../host.js";
import { BODY_CANCEL, BODY_READ } from "../ops.js";
import { type ByteController, makeByteStream } from "./byte-controller.js";
import { promiseOf } from "./promises.js";
import { READABLE, type Readable, type Source } from "./readable.js";
import { DefaultReader } from "./readers.js";
import { type ReadableStream, readableOf, wrapReadable } from "./readable-stream.js";
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
  const source = new HostSource(handle);
  source.controller = makeByteStream(source);
  return wrapReadable(source.controller.stream);
}

/** What a stream of the runtime's own will give: the handle of a body, or the contents. */
function unread(readable: Readable): number | string | Uint8Array | null {
  if (readable.disturbed || readable.reader !== null || readable.state !== READABLE) return null;
  const { source } = readable.controller;
  if (source instanceof HostSource) return source.handle;
  return source instanceof WholeSource ? source.content : null;
}

/** The handle of a body that nobody has read from; null for every other stream. */
export function hostHandleOf(stream: ReadableStream): number | null {
  const found = unread(readableOf(stream));
  return typeof found === "number" ? found : null;
}

/** Ends a stream before its time. */
export function failStream(stream: ReadableStream, reason: unknown): void {
  const { controller } = readableOf(stream);
  if (controller.source instanceof HostSource) void controller.source.cancel();
  controller.fail(reason);
}

/** Takes what the stream would give, so that nobody needs to read it; null when that can not be. */
export function takeUnread(stream: ReadableStream): number | string | Uint8Array | null {
  const readable = readableOf(stream);
  const found = unread(readable);
  if (found !== null) {
    readable.disturbed = true;
    new DefaultReader(readable);
  }
  return found;
}
