// The controllers of readable streams as programs see them.
// https://streams.spec.whatwg.org/#rs-default-controller-class

import { finishInterface } from "../interface.js";
import { enforceUnsignedLongLong, requireArguments } from "../webidl.js";
import { isDetached, requireView } from "./buffers.js";
import { type ByteController, setRequestInvalidator } from "./byte-controller.js";
import type { DefaultController } from "./default-controller.js";

export let wrapDefaultController: (controller: DefaultController) => ReadableStreamDefaultController;
export let wrapByteController: (controller: ByteController) => ReadableByteStreamController;

/** What the next object is to stand for: programs can not make controllers. */
let wrapped: unknown = null;

function takeWrapped<T>(): T {
  if (wrapped === null) throw new TypeError("Illegal constructor");
  const value = wrapped as T;
  wrapped = null;
  return value;
}

export class ReadableStreamDefaultController {
  #controller: DefaultController;

  static {
    wrapDefaultController = (controller) => {
      wrapped = controller;
      return new ReadableStreamDefaultController();
    };
  }

  constructor() {
    this.#controller = takeWrapped();
  }

  get desiredSize(): number | null {
    return this.#controller.desiredSize;
  }

  close(): void {
    const controller = this.#controller;
    if (!controller.canEnqueue) throw new TypeError("The stream is closed or failed already");
    controller.close();
  }

  enqueue(chunk: unknown = undefined): void {
    const controller = this.#controller;
    if (!controller.canEnqueue) throw new TypeError("The stream is closed or failed: it takes no more chunks");
    controller.enqueue(chunk);
  }

  error(reason: unknown = undefined): void {
    this.#controller.fail(reason);
  }
}

finishInterface(ReadableStreamDefaultController);

export class ReadableByteStreamController {
  #controller: ByteController;

  static {
    wrapByteController = (controller) => {
      wrapped = controller;
      return new ReadableByteStreamController();
    };
  }

  constructor() {
    this.#controller = takeWrapped();
  }

  get byobRequest(): ReadableStreamBYOBRequest | null {
    const controller = this.#controller;
    if (controller.byobRequest === null && controller.pending.length > 0) {
      wrapped = controller;
      controller.byobRequest = new ReadableStreamBYOBRequest();
    }
    return controller.byobRequest;
  }

  get desiredSize(): number | null {
    return this.#controller.desiredSize;
  }

  close(): void {
    const controller = this.#controller;
    if (!controller.canEnqueue) throw new TypeError("The stream is closed or failed already");
    controller.close();
  }

  enqueue(chunk: unknown): void {
    const controller = this.#controller;
    requireArguments(arguments.length, 1, "enqueue");
    const view = requireView(chunk, "The chunk");
    if (view.byteLength === 0) throw new TypeError("A chunk of a byte stream is not empty");
    if (view.buffer.byteLength === 0) throw new TypeError("The buffer of the chunk is empty or detached");
    if (!controller.canEnqueue) throw new TypeError("The stream is closed or failed: it takes no more chunks");
    controller.enqueue(view);
  }

  error(reason: unknown = undefined): void {
    this.#controller.fail(reason);
  }
}

finishInterface(ReadableByteStreamController);

// https://streams.spec.whatwg.org/#rs-byob-request-class
export class ReadableStreamBYOBRequest {
  #controller: ByteController | null;
  #view: Uint8Array<ArrayBuffer> | null;

  static {
    setRequestInvalidator((request) => {
      request.#controller = null;
      request.#view = null;
    });
  }

  constructor() {
    const controller = takeWrapped<ByteController>();
    const first = controller.pending[0]!;
    this.#controller = controller;
    this.#view = new Uint8Array(first.buffer, first.offset + first.filled, first.length - first.filled);
  }

  get view(): Uint8Array | null {
    return this.#view;
  }

  respond(bytesWritten: unknown): void {
    const view = this.#view;
    requireArguments(arguments.length, 1, "respond");
    const written = enforceUnsignedLongLong(bytesWritten, "The number of bytes");
    const controller = this.#validController();
    if (isDetached(view!.buffer)) throw new TypeError("The buffer of the request is detached");
    controller.respond(written);
  }

  respondWithNewView(view: unknown): void {
    void this.#view;
    requireArguments(arguments.length, 1, "respondWithNewView");
    const given = requireView(view, "The new view");
    const controller = this.#validController();
    if (isDetached(given.buffer)) throw new TypeError("The buffer of the new view is detached");
    controller.respondWithView(given);
  }

  #validController(): ByteController {
    if (this.#controller === null) throw new TypeError("This request was answered already");
    return this.#controller;
  }
}

finishInterface(ReadableStreamBYOBRequest);
