// A writable stream without its public face: the state that controller and writer share.
// https://streams.spec.whatwg.org/#ws-class

import { Deferred, react, rejected, resolved } from "./promises.js";
import { Queue } from "./queue.js";
import type { WritableController } from "./writable-controller.js";
import type { Writer } from "./writer.js";

export const WRITING = 0;
/** It will have failed when the sink's work under way is over. */
export const FAILING = 1;
export const FAILED = 2;
export const DONE = 3;

/** Who waits for the end of a write. */
export interface WriteRequest {
  written(): void;
  failed(reason: unknown): void;
}

/** Where chunks go: an object of the program's, or something of the runtime. */
export interface Sink {
  /** null: the sink calls the controller's `written` or `writeFailed` when it is done. */
  write(chunk: unknown): Promise<unknown> | null;
  /** The promise of `write` was rejected; called before the stream hears of it. */
  writeFailed(reason: unknown): void;
  close(): Promise<unknown>;
  abort(reason: unknown): Promise<unknown>;
}

interface PendingAbort {
  readonly deferred: Deferred;
  readonly reason: unknown;
  readonly wasFailing: boolean;
}

export class Writable {
  state = WRITING;
  storedError: unknown = undefined;
  writer: Writer | null = null;
  controller!: WritableController;
  backpressure = false;
  /** A close was asked for, and has not ended. */
  closing = false;
  /** The sink is at work on the first write. */
  writeInFlight: WriteRequest | null = null;
  readonly #writes = new Queue<WriteRequest>();
  #close: Deferred | null = null;
  #closeInFlight: Deferred | null = null;
  #pendingAbort: PendingAbort | null = null;

  // https://streams.spec.whatwg.org/#writable-stream-abort
  abort(reason: unknown): Promise<undefined> {
    if (this.state === DONE || this.state === FAILED) return resolved(undefined);
    this.controller.signalAbort(reason);
    // The signal's listeners may have ended the stream.
    const state = this.state as number;
    if (state === DONE || state === FAILED) return resolved(undefined);
    if (this.#pendingAbort !== null) return this.#pendingAbort.deferred.promise;
    const wasFailing = state === FAILING;
    const deferred = new Deferred();
    this.#pendingAbort = { deferred, reason: wasFailing ? undefined : reason, wasFailing };
    if (!wasFailing) this.startFailing(reason);
    return deferred.promise;
  }

  // https://streams.spec.whatwg.org/#writable-stream-close
  close(): Promise<undefined> {
    if (this.state === DONE || this.state === FAILED) {
      return rejected(new TypeError("The stream is closed or failed already"));
    }
    const deferred = (this.#close = new Deferred());
    this.closing = true;
    if (this.backpressure && this.state === WRITING) this.writer?.becomeReady();
    this.controller.close();
    return deferred.promise;
  }

  addWrite(request: WriteRequest): void {
    this.#writes.push(request);
  }

  /** The first write goes to the sink. */
  beginWrite(): void {
    this.writeInFlight = this.#writes.shift();
  }

  beginClose(): void {
    this.#closeInFlight = this.#close;
    this.#close = null;
  }

  finishWrite(): void {
    const request = this.writeInFlight!;
    this.writeInFlight = null;
    request.written();
  }

  failWrite(reason: unknown): void {
    const request = this.writeInFlight!;
    this.writeInFlight = null;
    request.failed(reason);
    this.dealWithRejection(reason);
  }

  // https://streams.spec.whatwg.org/#writable-stream-finish-in-flight-close
  finishClose(): void {
    this.#closeInFlight!.resolve(undefined);
    this.#closeInFlight = null;
    this.closing = false;
    if (this.state === FAILING) {
      this.storedError = undefined;
      this.#pendingAbort?.deferred.resolve(undefined);
      this.#pendingAbort = null;
    }
    this.state = DONE;
    this.writer?.streamClosed();
  }

  failClose(reason: unknown): void {
    this.#closeInFlight!.reject(reason);
    this.#closeInFlight = null;
    this.closing = false;
    this.#pendingAbort?.deferred.reject(reason);
    this.#pendingAbort = null;
    this.dealWithRejection(reason);
  }

  dealWithRejection(reason: unknown): void {
    if (this.state === WRITING) this.startFailing(reason);
    else this.finishFailing();
  }

  // https://streams.spec.whatwg.org/#writable-stream-start-erroring
  startFailing(reason: unknown): void {
    this.state = FAILING;
    this.storedError = reason;
    this.writer?.failReady(reason);
    const busy = this.writeInFlight !== null || this.#closeInFlight !== null;
    if (!busy && this.controller.started) this.finishFailing();
  }

  // https://streams.spec.whatwg.org/#writable-stream-finish-erroring
  finishFailing(): void {
    this.state = FAILED;
    this.controller.clearQueue();
    const reason = this.storedError;
    for (const request of this.#writes.drain()) request.failed(reason);
    const pending = this.#pendingAbort;
    this.#pendingAbort = null;
    if (pending === null) {
      this.#rejectClosed();
      return;
    }
    if (pending.wasFailing) {
      pending.deferred.reject(reason);
      this.#rejectClosed();
      return;
    }
    react(
      this.controller.abort(pending.reason),
      () => {
        pending.deferred.resolve(undefined);
        this.#rejectClosed();
      },
      (error) => {
        pending.deferred.reject(error);
        this.#rejectClosed();
      },
    );
  }

  #rejectClosed(): void {
    this.#close?.reject(this.storedError);
    this.#close = null;
    this.closing = false;
    this.writer?.streamFailed(this.storedError);
  }

  // https://streams.spec.whatwg.org/#writable-stream-update-backpressure
  updateBackpressure(backpressure: boolean): void {
    if (backpressure === this.backpressure) return;
    this.backpressure = backpressure;
    const writer = this.writer;
    if (writer === null) return;
    if (backpressure) writer.becomeUnready();
    else writer.becomeReady();
  }
}
