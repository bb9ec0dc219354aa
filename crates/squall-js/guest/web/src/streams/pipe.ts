// pipeTo: chunks go from one stream to the other with no promise of their own.
// https://streams.spec.whatwg.org/#readable-stream-pipe-to

import { addAbortAlgorithm, type AbortSignal, isAbortSignal, removeAbortAlgorithm } from "../abort.js";
import { dictionary } from "../webidl.js";
import { Deferred, microtask, react, resolved } from "./promises.js";
import { CLOSED, EMPTY, ERRORED, READABLE, type Readable, type ReadRequest } from "./readable.js";
import { DefaultReader, type ReaderWatcher } from "./readers.js";
import { DONE, FAILED, type Writable, WRITING, type WriteRequest } from "./writable.js";
import { Writer, type WriterWatcher } from "./writer.js";

export interface PipeOptions {
  readonly preventAbort: boolean;
  readonly preventCancel: boolean;
  readonly preventClose: boolean;
  readonly signal: AbortSignal | null;
}

const DEFAULTS: PipeOptions = { preventAbort: false, preventCancel: false, preventClose: false, signal: null };

/** The dictionary StreamPipeOptions. */
export function readPipeOptions(options: unknown): PipeOptions {
  const given = dictionary(options, "The options of a pipe");
  if (given === null) return DEFAULTS;
  const preventAbort = Boolean(given["preventAbort"]);
  const preventCancel = Boolean(given["preventCancel"]);
  const preventClose = Boolean(given["preventClose"]);
  const signal = given["signal"];
  if (signal !== undefined && !isAbortSignal(signal)) throw new TypeError("signal is no AbortSignal");
  return { preventAbort, preventCancel, preventClose, signal: signal ?? null };
}

/** Neither stream may be locked. The promise is made when it is asked for. */
export function pipe(
  source: Readable,
  destination: Writable,
  options: PipeOptions,
  withPromise: boolean,
): Promise<undefined> | null {
  const running = new Pipe(source, destination, options, withPromise);
  running.begin();
  return running.finished === null ? null : running.finished.promise;
}

type Action = (() => Promise<unknown>) | null;

class Pipe implements ReadRequest, WriteRequest, ReaderWatcher, WriterWatcher {
  readonly finished: Deferred | null;
  readonly #source: Readable;
  readonly #destination: Writable;
  readonly #options: PipeOptions;
  readonly #reader: DefaultReader;
  readonly #writer: Writer;
  #reading = false;
  #shuttingDown = false;
  /** Chunks that were read and whose writing is not over. */
  #outstanding = 0;
  /** What waits for them. */
  #afterWrites: (() => void) | null = null;
  /** A chunk that came while nobody could write it: enqueue must not call into the sink. */
  #deferred: unknown = EMPTY;
  readonly #writeDeferred = (): void => {
    const chunk = this.#deferred;
    this.#deferred = EMPTY;
    this.#write(chunk);
    this.#pump();
  };
  #onAbort: (() => void) | null = null;

  constructor(source: Readable, destination: Writable, options: PipeOptions, withPromise: boolean) {
    this.#source = source;
    this.#destination = destination;
    this.#options = options;
    this.finished = withPromise ? new Deferred() : null;
    this.#reader = new DefaultReader(source);
    this.#writer = new Writer(destination);
    source.disturbed = true;
  }

  begin(): void {
    const { signal } = this.#options;
    if (signal !== null) {
      if (signal.aborted) {
        this.#abort();
        return;
      }
      this.#onAbort = () => this.#abort();
      addAbortAlgorithm(signal, this.#onAbort);
    }
    this.#reader.watcher = this;
    this.#writer.watcher = this;
    // The order of these matters where several of them hold from the beginning.
    if (this.#source.state === ERRORED) this.sourceFailed(this.#source.storedError);
    if (this.#destination.state === FAILED) this.destinationFailed(this.#destination.storedError);
    if (this.#source.state === CLOSED) this.sourceClosed();
    if (this.#destination.closing || this.#destination.state === DONE) this.#destinationClosing();
    if (!this.#shuttingDown) microtask(() => this.#pump());
  }

  /** Moves what is at hand, then waits: for a chunk, or for room. */
  #pump(): void {
    const { controller } = this.#source;
    while (!this.#shuttingDown && !this.#reading && this.#destination.controller.desiredSize! > 0) {
      if (this.#destination.state !== WRITING || this.#source.state !== READABLE) return;
      // Counted first: taking the last chunk closes the source.
      this.#outstanding++;
      const chunk = controller.take();
      if (chunk !== EMPTY) {
        this.#write(chunk);
        continue;
      }
      this.#outstanding--;
      this.#reading = true;
      this.#reader.read(this);
    }
  }

  // As a read request.

  chunk(chunk: unknown): void {
    this.#reading = false;
    this.#outstanding++;
    this.#deferred = chunk;
    if (this.#source.controller.source?.alone === true) this.#writeDeferred();
    else microtask(this.#writeDeferred);
  }

  close(): void {
    this.#reading = false;
  }

  error(): void {
    this.#reading = false;
  }

  // As a write request.

  #write(chunk: unknown): void {
    // The pipe may have ended without it, where the destination had failed.
    if (this.#writer.stream !== null) this.#writer.write(chunk, this);
  }

  written(): void {
    this.#writeEnded();
  }

  failed(): void {
    this.#writeEnded();
  }

  #writeEnded(): void {
    this.#outstanding--;
    if (this.#outstanding > 0 || this.#afterWrites === null) return;
    // Later: the destination is in the middle of dealing with the end of that write.
    microtask(this.#afterWrites);
    this.#afterWrites = null;
  }

  /** The destination has room. */
  ready(): void {
    this.#pump();
  }

  // The four ways in which a pipe ends by itself.

  sourceFailed(reason: unknown): void {
    const abort = this.#options.preventAbort ? null : () => this.#destination.abort(reason);
    this.#shutDown(abort, { reason });
  }

  destinationFailed(reason: unknown): void {
    const cancel = this.#options.preventCancel ? null : () => this.#source.cancel(reason);
    this.#shutDown(cancel, { reason });
  }

  sourceClosed(): void {
    this.#shutDown(this.#options.preventClose ? null : () => this.#writer.closeWithErrorPropagation(), null);
  }

  #destinationClosing(): void {
    const reason = new TypeError("The destination of the pipe is closed");
    const cancel = this.#options.preventCancel ? null : () => this.#source.cancel(reason);
    this.#shutDown(cancel, { reason });
  }

  #abort(): void {
    const reason: unknown = this.#options.signal!.reason;
    const actions: (() => Promise<unknown>)[] = [];
    if (!this.#options.preventAbort) {
      actions.push(() => (this.#destination.state === WRITING ? this.#destination.abort(reason) : resolved(undefined)));
    }
    if (!this.#options.preventCancel) {
      actions.push(() => (this.#source.state === READABLE ? this.#source.cancel(reason) : resolved(undefined)));
    }
    this.#shutDown(() => Promise.all(actions.map((action) => action())), { reason });
  }

  // https://streams.spec.whatwg.org/#rs-pipeTo-shutdown-with-action
  #shutDown(action: Action, failure: { reason: unknown } | null): void {
    if (this.#shuttingDown) return;
    this.#shuttingDown = true;
    const then = (): void => this.#finishAfter(action, failure);
    if (this.#destination.state !== WRITING || this.#destination.closing) then();
    else if (this.#outstanding > 0) this.#afterWrites = then;
    else microtask(then);
  }

  #finishAfter(action: Action, failure: { reason: unknown } | null): void {
    if (action === null) {
      this.#finish(failure);
      return;
    }
    react(
      action(),
      () => this.#finish(failure),
      (reason) => this.#finish({ reason }),
    );
  }

  #finish(failure: { reason: unknown } | null): void {
    this.#writer.release();
    this.#reader.release();
    if (this.#onAbort !== null) removeAbortAlgorithm(this.#options.signal!, this.#onAbort);
    if (this.finished === null) return;
    if (failure === null) this.finished.resolve(undefined);
    else this.finished.reject(failure.reason);
  }
}
