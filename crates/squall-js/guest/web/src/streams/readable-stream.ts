// ReadableStream.
// https://streams.spec.whatwg.org/#rs-class

import { finishInterface } from "../interface.js";
import { dictionary, enumeration, requireArguments } from "../webidl.js";
import { makeAsyncIterator } from "./async-iterator.js";
import { teeBytes } from "./byte-tee.js";
import { startFromIterable } from "./from.js";
import { pipe, type PipeOptions, readPipeOptions } from "./pipe.js";
import { rejected } from "./promises.js";
import { Readable } from "./readable.js";
import { ReadableStreamBYOBReader, ReadableStreamDefaultReader } from "./reader-classes.js";
import { type CloneChunk, teeChunks } from "./tee.js";
import { startUserSource } from "./user-source.js";
import { isWritableStream, writableOf, type WritableStream } from "./writable-stream.js";

export let isReadableStream: (value: unknown) => value is ReadableStream;
/** The stream without its public face; throws for anything else. */
export let readableOf: (stream: unknown) => Readable;
export let isDisturbed: (stream: ReadableStream) => boolean;
/** The public face of a stream of the runtime's own, or of what such a stream would give. */
export let wrapReadable: (readable: Readable | Unread) => ReadableStream;
/** Takes what the stream would give, so that nobody needs to read it; null when that can not be. */
export let takeUnread: (stream: ReadableStream) => Unread | null;

/** Contents that are at hand, or the handle of a body that the host has. */
export type Unread = string | Uint8Array | number;

/** What makes streams of bodies that somebody reads from after all. */
export interface Opener {
  open(unread: Unread): Readable;
  /** What the stream would give, if it is one of these and nobody has read from it. */
  unread(readable: Readable): Unread | null;
  /** Nobody can read from it any more. */
  take(readable: Readable): void;
}

let opener: Opener;

export function setOpener(given: Opener): void {
  opener = given;
}

/** What the next ReadableStream is to stand for. */
let wrapped: Readable | Unread | null = null;

export class ReadableStream {
  /** Bodies are made streams of when somebody does with one what needs a stream. */
  #source: Readable | Unread;
  /** What it would give was taken, and nothing has asked for a stream since. */
  #taken = false;

  static {
    readableOf = (stream) => {
      if (!isReadableStream(stream)) throw new TypeError("This is no ReadableStream");
      const source = stream.#source;
      if (source instanceof Readable) return source;
      const readable = opener.open(source);
      stream.#source = readable;
      if (stream.#taken) opener.take(readable);
      return readable;
    };
    isDisturbed = (stream) => {
      const source = stream.#source;
      return source instanceof Readable ? source.disturbed : stream.#taken;
    };
    wrapReadable = (readable) => {
      wrapped = readable;
      return new ReadableStream();
    };
    isReadableStream = (value): value is ReadableStream =>
      typeof value === "object" && value !== null && #source in value;
    takeUnread = (stream) => {
      const source = stream.#source;
      if (!(source instanceof Readable)) {
        if (stream.#taken) return null;
        stream.#taken = true;
        return source;
      }
      const unread = opener.unread(source);
      if (unread !== null) opener.take(source);
      return unread;
    };
  }

  constructor(underlyingSource: unknown = undefined, strategy: unknown = undefined) {
    if (wrapped !== null) {
      this.#source = wrapped;
      wrapped = null;
      return;
    }
    const readable = new Readable();
    this.#source = readable;
    startUserSource(readable, underlyingSource, strategy);
  }

  static from(asyncIterable: unknown): ReadableStream {
    requireArguments(arguments.length, 1, "ReadableStream.from");
    return wrapReadable(startFromIterable(asyncIterable));
  }

  get locked(): boolean {
    const source = this.#source;
    return source instanceof Readable ? source.reader !== null : this.#taken;
  }

  cancel(reason: unknown = undefined): Promise<undefined> {
    if (!isReadableStream(this)) return notAStream();
    const readable = readableOf(this);
    if (readable.reader !== null) return rejected(new TypeError("A locked stream is cancelled by its reader"));
    return readable.cancel(reason);
  }

  getReader(options?: undefined): ReadableStreamDefaultReader;
  getReader(options: { mode: "byob" }): ReadableStreamBYOBReader;
  getReader(options: unknown = undefined): ReadableStreamDefaultReader | ReadableStreamBYOBReader {
    void readableOf(this);
    const mode = dictionary(options, "The options of getReader")?.["mode"];
    if (mode === undefined) return new ReadableStreamDefaultReader(this);
    enumeration(mode, ["byob"], "mode");
    return new ReadableStreamBYOBReader(this);
  }

  pipeThrough(transform: unknown, options: unknown = undefined): ReadableStream {
    const readable = readableOf(this);
    requireArguments(arguments.length, 1, "pipeThrough");
    const pair = dictionary(transform, "What pipeThrough takes") ?? {};
    const result = pair["readable"];
    if (!isReadableStream(result)) throw new TypeError("readable is no ReadableStream");
    const writable = pair["writable"];
    if (!isWritableStream(writable)) throw new TypeError("writable is no WritableStream");
    const settings = readPipeOptions(options);
    if (readable.reader !== null || writable.locked) throw new TypeError("One of the streams is locked");
    pipe(readable, writableOf(writable), settings, false);
    return result;
  }

  pipeTo(destination: unknown, options: unknown = undefined): Promise<undefined> {
    if (!isReadableStream(this)) return notAStream();
    let settings: PipeOptions;
    try {
      requireArguments(arguments.length, 1, "pipeTo");
      if (!isWritableStream(destination)) throw new TypeError("pipeTo needs a WritableStream");
      settings = readPipeOptions(options);
      if (readableOf(this).reader !== null) throw new TypeError("The stream is locked");
      if ((destination as WritableStream).locked) throw new TypeError("The destination is locked");
    } catch (error) {
      return rejected(error);
    }
    return pipe(readableOf(this), writableOf(destination as WritableStream), settings, true)!;
  }

  tee(): [ReadableStream, ReadableStream] {
    return teeReadable(readableOf(this), null);
  }

  values(options: unknown = undefined): AsyncIterator<unknown> {
    const readable = readableOf(this);
    const preventCancel = Boolean(dictionary(options, "The options of values")?.["preventCancel"]);
    return makeAsyncIterator(readable, preventCancel);
  }

  declare [Symbol.asyncIterator]: (options?: unknown) => AsyncIterator<unknown>;
}

finishInterface(ReadableStream);
Object.defineProperty(ReadableStream.prototype, Symbol.asyncIterator, {
  value: ReadableStream.prototype.values,
  writable: true,
  configurable: true,
});

/** tee, and chunks of the second branch may be copies. Those of a byte stream always are. */
export function teeReadable(readable: Readable, clone: CloneChunk): [ReadableStream, ReadableStream] {
  const [first, second] = "pullInto" in readable.controller ? teeBytes(readable) : teeChunks(readable, clone);
  return [wrapReadable(first), wrapReadable(second)];
}

function notAStream(): Promise<never> {
  return rejected(new TypeError("Illegal invocation: this is no ReadableStream"));
}
