// Where the bytes of a byte stream wait, and the views that readers gave to be filled.
// https://streams.spec.whatwg.org/#rbs-controller-class

import { isDetached, transferBuffer, type ViewConstructor, viewKind } from "./buffers.js";
import type { ReadableStreamBYOBRequest } from "./controllers.js";
import { promiseOf, react } from "./promises.js";
import { Queue } from "./queue.js";
import {
  CLOSED,
  type Controller,
  EMPTY,
  ERRORED,
  READABLE,
  Readable,
  type ReadIntoRequest,
  type ReadRequest,
  type Source,
} from "./readable.js";
import type { ByobReader, DefaultReader } from "./readers.js";

const NO_READER = 0;
const DEFAULT = 1;
const BYOB = 2;

/** A view to be filled. */
// https://streams.spec.whatwg.org/#pull-into-descriptor
export interface PullInto {
  buffer: ArrayBuffer;
  readonly bufferLength: number;
  readonly offset: number;
  readonly length: number;
  filled: number;
  /** Fewer bytes than this do not answer the reader. */
  readonly least: number;
  readonly elementSize: number;
  readonly viewConstructor: ViewConstructor;
  readerKind: number;
}

/** How the public object that shows the first view to the source loses it. */
let invalidate: (request: ReadableStreamBYOBRequest) => void;

export function setRequestInvalidator(invalidator: typeof invalidate): void {
  invalidate = invalidator;
}

export class ByteController implements Controller {
  readonly stream: Readable;
  source: Source | null;
  closeRequested = false;
  readonly pending: PullInto[] = [];
  byobRequest: ReadableStreamBYOBRequest | null = null;
  readonly #highWaterMark: number;
  /** 0: a default reader gets what the source enqueues, in the source's own buffers. */
  readonly #autoAllocate: number;
  readonly #queue = new Queue<Uint8Array<ArrayBuffer>>();
  #total = 0;
  #started = false;
  #pulling = false;
  #pullAgain = false;
  #onPulled: (() => void) | null = null;
  #onPullFailed: ((reason: unknown) => void) | null = null;

  constructor(stream: Readable, source: Source, highWaterMark: number, autoAllocate: number) {
    this.stream = stream;
    stream.controller = this;
    this.source = source;
    this.#highWaterMark = highWaterMark;
    this.#autoAllocate = autoAllocate;
  }

  begin(started: unknown): void {
    if (started === undefined && !this.source?.pulls) {
      this.#started = true;
      return;
    }
    react(
      promiseOf(started),
      () => this.beginNow(),
      (reason) => this.fail(reason),
    );
  }

  beginNow(): void {
    this.#started = true;
    this.pullIfNeeded();
  }

  get desiredSize(): number | null {
    const state = this.stream.state;
    if (state === READABLE) return this.#highWaterMark - this.#total;
    return state === ERRORED ? null : 0;
  }

  get canEnqueue(): boolean {
    return !this.closeRequested && this.stream.state === READABLE;
  }

  /** Takes the bytes of a program's view: its buffer is detached. */
  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-enqueue
  enqueue(view: ArrayBufferView<ArrayBuffer>): void {
    if (!this.canEnqueue) return;
    const { byteOffset, byteLength } = view;
    this.enqueueOwned(new Uint8Array(transferBuffer(view.buffer), byteOffset, byteLength));
  }

  /** As `enqueue`, for bytes that nobody else holds. */
  enqueueOwned(bytes: Uint8Array<ArrayBuffer>): void {
    const first = this.pending[0];
    if (first !== undefined) {
      if (isDetached(first.buffer)) throw new TypeError("The buffer of the BYOB request is detached");
      this.#invalidateRequest();
      first.buffer = transferBuffer(first.buffer);
      if (first.readerKind === NO_READER) this.#enqueueDetached(first);
    }
    const reader = this.stream.reader;
    if (reader === null) {
      this.#push(bytes);
    } else if (reader.isByob) {
      this.#push(bytes);
      this.#commit(this.#fillPending());
    } else {
      this.#answerReads(reader);
      if (reader.requests.length === 0) {
        this.#push(bytes);
      } else {
        if (this.pending.length > 0) this.pending.shift();
        reader.requests.shift().chunk(bytes);
      }
    }
    this.pullIfNeeded();
  }

  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-close
  close(): void {
    if (!this.canEnqueue) return;
    if (this.#total > 0) {
      this.closeRequested = true;
      return;
    }
    const first = this.pending[0];
    if (first !== undefined && first.filled % first.elementSize !== 0) {
      const error = new TypeError("The stream was closed in the middle of an element");
      this.fail(error);
      throw error;
    }
    this.source = null;
    this.stream.close();
  }

  fail(reason: unknown): void {
    if (this.stream.state !== READABLE) return;
    this.#dropPending();
    this.#dropQueue();
    this.source = null;
    this.stream.fail(reason);
  }

  take(): unknown {
    return this.#total > 0 ? this.#takeChunk() : EMPTY;
  }

  pull(request: ReadRequest): void {
    if (this.#total > 0) {
      request.chunk(this.#takeChunk());
      return;
    }
    const length = this.#autoAllocate;
    if (length > 0) {
      let buffer: ArrayBuffer;
      try {
        buffer = new ArrayBuffer(length);
      } catch (error) {
        request.error(error);
        return;
      }
      this.pending.push({
        ...{ buffer, bufferLength: length, offset: 0, length, filled: 0, least: 1, elementSize: 1 },
        ...{ viewConstructor: Uint8Array as unknown as ViewConstructor, readerKind: DEFAULT },
      });
    }
    (this.stream.reader as DefaultReader).requests.push(request);
    this.pullIfNeeded();
  }

  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-pull-into
  pullInto(view: ArrayBufferView<ArrayBuffer>, least: number, request: ReadIntoRequest): void {
    const { constructor: viewConstructor, elementSize } = viewKind(view);
    const { byteOffset: offset, byteLength: length } = view;
    let buffer: ArrayBuffer;
    try {
      buffer = transferBuffer(view.buffer);
    } catch (error) {
      request.error(error);
      return;
    }
    const into: PullInto = {
      ...{ buffer, bufferLength: buffer.byteLength, offset, length, filled: 0, least: least * elementSize },
      ...{ elementSize, viewConstructor, readerKind: BYOB },
    };
    const reader = this.stream.reader as ByobReader;
    if (this.pending.length > 0) {
      this.pending.push(into);
      reader.requests.push(request);
      return;
    }
    if (this.stream.state === CLOSED) {
      request.close(new viewConstructor(buffer, offset, 0));
      return;
    }
    if (this.#total > 0) {
      if (this.#fill(into)) {
        const filled = filledView(into);
        this.#queueDrained();
        request.chunk(filled);
        return;
      }
      if (this.closeRequested) {
        const error = new TypeError("The stream ends in the middle of an element");
        this.fail(error);
        request.error(error);
        return;
      }
    }
    this.pending.push(into);
    reader.requests.push(request);
    this.pullIfNeeded();
  }

  /** The source has written into the first view. */
  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-respond
  respond(written: number): void {
    const first = this.pending[0]!;
    this.#checkResponse(first, written);
    first.buffer = transferBuffer(first.buffer);
    this.#respond(first, written);
  }

  /** The source has written into a view that takes the place of the first one. */
  respondWithView(view: ArrayBufferView<ArrayBuffer>): void {
    const first = this.pending[0]!;
    const { byteOffset, byteLength } = view;
    if (this.stream.state === CLOSED ? byteLength !== 0 : byteLength === 0) this.#checkResponse(first, byteLength);
    if (first.offset + first.filled !== byteOffset || first.bufferLength !== view.buffer.byteLength) {
      throw new RangeError("The view does not show the place that was asked for");
    }
    this.#checkResponse(first, byteLength);
    first.buffer = transferBuffer(view.buffer);
    this.#respond(first, byteLength);
  }

  #checkResponse(first: PullInto, written: number): void {
    if (this.stream.state === CLOSED) {
      if (written !== 0) throw new TypeError("The stream is closed: nothing can be written");
      return;
    }
    if (written === 0) throw new TypeError("Nothing was written: close the controller at the end");
    if (first.filled + written > first.length) throw new RangeError("More was written than was asked for");
  }

  #respond(first: PullInto, written: number): void {
    this.#invalidateRequest();
    if (this.stream.state === CLOSED) this.#respondClosed(first);
    else this.#respondReadable(first, written);
    this.pullIfNeeded();
  }

  #respondClosed(first: PullInto): void {
    if (first.readerKind === NO_READER) this.pending.shift();
    const reader = this.stream.reader;
    if (reader === null || !reader.isByob) return;
    this.#commit(this.pending.splice(0, reader.requests.length));
  }

  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-respond-in-readable-state
  #respondReadable(first: PullInto, written: number): void {
    first.filled += written;
    if (first.readerKind === NO_READER) {
      this.#enqueueDetached(first);
      this.#commit(this.#fillPending());
      return;
    }
    if (first.filled < first.least) return;
    this.pending.shift();
    const rest = first.filled % first.elementSize;
    if (rest > 0) {
      const end = first.offset + first.filled;
      this.#push(new Uint8Array(first.buffer.slice(end - rest, end)));
      first.filled -= rest;
    }
    const filled = this.#fillPending();
    this.#commitOne(first);
    this.#commit(filled);
  }

  cancel(reason: unknown): Promise<unknown> {
    this.#dropPending();
    this.#dropQueue();
    const source = this.source!;
    const result = source.cancel(reason);
    this.source = null;
    return result;
  }

  release(): void {
    const first = this.pending[0];
    if (first === undefined) return;
    first.readerKind = NO_READER;
    this.pending.length = 1;
  }

  get #wantsMore(): boolean {
    const { state, reader } = this.stream;
    if (state !== READABLE || this.closeRequested || !this.#started) return false;
    if (reader !== null && reader.requests.length > 0) return true;
    return this.#highWaterMark > this.#total;
  }

  pullIfNeeded(): void {
    const source = this.source;
    if (source === null || !source.pulls || !this.#wantsMore) return;
    if (this.#pulling) {
      this.#pullAgain = true;
      return;
    }
    this.#pulling = true;
    const promise = source.pull();
    if (promise === null) return;
    this.#onPulled ??= () => this.pulled();
    this.#onPullFailed ??= (reason) => this.fail(reason);
    react(promise, this.#onPulled, this.#onPullFailed);
  }

  pulled(): void {
    this.#pulling = false;
    if (!this.#pullAgain) return;
    this.#pullAgain = false;
    this.pullIfNeeded();
  }

  #push(bytes: Uint8Array<ArrayBuffer>): void {
    this.#queue.push(bytes);
    this.#total += bytes.length;
  }

  #takeChunk(): Uint8Array {
    const bytes = this.#queue.shift();
    this.#total -= bytes.length;
    this.#queueDrained();
    return bytes;
  }

  /** Bytes were taken out of the queue. */
  #queueDrained(): void {
    if (this.#total === 0 && this.closeRequested) {
      this.source = null;
      this.stream.close();
    } else {
      this.pullIfNeeded();
    }
  }

  /** Gives queued bytes to those that wait. */
  #answerReads(reader: DefaultReader): void {
    while (reader.requests.length > 0 && this.#total > 0) {
      reader.requests.shift().chunk(this.#takeChunk());
    }
  }

  /** What a reader that is gone had in its view goes before all else. */
  #enqueueDetached(first: PullInto): void {
    if (first.filled > 0) {
      this.#push(new Uint8Array(first.buffer.slice(first.offset, first.offset + first.filled)));
    }
    this.pending.shift();
  }

  /** The views that the queue fills, taken from those that wait. */
  #fillPending(): PullInto[] {
    const filled: PullInto[] = [];
    while (this.pending.length > 0 && this.#total > 0 && this.#fill(this.pending[0]!)) {
      filled.push(this.pending.shift()!);
    }
    return filled;
  }

  /** Copies what there is into a view; true when that is enough for its reader. */
  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-fill-pull-into-descriptor-from-queue
  #fill(into: PullInto): boolean {
    let left = Math.min(this.#total, into.length - into.filled);
    const most = into.filled + left;
    const aligned = most - (most % into.elementSize);
    const enough = aligned >= into.least;
    if (enough) left = aligned - into.filled;
    const target = new Uint8Array(into.buffer, into.offset, into.length);
    while (left > 0) {
      const head = this.#queue.peek();
      let part = head;
      if (head.length <= left) {
        this.#queue.shift();
      } else {
        part = head.subarray(0, left);
        this.#queue.replaceFirst(head.subarray(left));
      }
      target.set(part, into.filled);
      into.filled += part.length;
      this.#total -= part.length;
      left -= part.length;
    }
    return enough;
  }

  #commit(filled: readonly PullInto[]): void {
    for (const into of filled) this.#commitOne(into);
  }

  // https://streams.spec.whatwg.org/#readable-byte-stream-controller-commit-pull-into-descriptor
  #commitOne(into: PullInto): void {
    const view = filledView(into);
    const reader = this.stream.reader!;
    const done = this.stream.state === CLOSED;
    if (!reader.isByob) {
      const request = reader.requests.shift();
      if (done) request.close();
      else request.chunk(view);
    } else {
      const request = reader.requests.shift();
      if (done) request.close(view);
      else request.chunk(view);
    }
  }

  #invalidateRequest(): void {
    if (this.byobRequest === null) return;
    invalidate(this.byobRequest);
    this.byobRequest = null;
  }

  #dropPending(): void {
    this.#invalidateRequest();
    this.pending.length = 0;
  }

  #dropQueue(): void {
    this.#queue.clear();
    this.#total = 0;
  }
}

function filledView(into: PullInto): ArrayBufferView {
  return new into.viewConstructor(transferBuffer(into.buffer), into.offset, into.filled / into.elementSize);
}

/** A byte stream of the runtime's own. It asks its source only when somebody reads. */
export function makeByteStream(source: Source): ByteController {
  const controller = new ByteController(new Readable(), source, 0, 0);
  controller.beginNow();
  return controller;
}
