// tee of a byte stream: each branch gets bytes of its own, and may read into views.
// https://streams.spec.whatwg.org/#abstract-opdef-readablebytestreamtee

import { type ByteController, makeByteStream } from "./byte-controller.js";
import { Deferred, microtask } from "./promises.js";
import { ERRORED, type Readable, type ReadIntoRequest, type ReadRequest, type Source } from "./readable.js";
import { ByobReader, DefaultReader, type ReaderWatcher } from "./readers.js";

export function teeBytes(stream: Readable): [Readable, Readable] {
  const tee = new ByteTee(stream);
  return [tee.branches[0].controller.stream, tee.branches[1].controller.stream];
}

class Branch implements Source {
  readonly pulls = true;
  readonly tee: ByteTee;
  readonly controller: ByteController;
  cancelled = false;
  reason: unknown = undefined;
  readAgain = false;

  constructor(tee: ByteTee) {
    this.tee = tee;
    this.controller = makeByteStream(this);
  }

  pull(): null {
    this.tee.pull(this);
    this.controller.pulled();
    return null;
  }

  cancel(reason: unknown): Promise<unknown> {
    this.cancelled = true;
    this.reason = reason;
    return this.tee.cancel();
  }

  /** Ends it, and answers those who wait with a view. */
  close(view?: ArrayBufferView<ArrayBuffer>): void {
    if (this.cancelled) return;
    this.controller.close();
    if (view !== undefined) this.controller.respondWithView(view);
    else if (this.controller.pending.length > 0) this.controller.respond(0);
  }
}

class ByteTee implements ReaderWatcher {
  readonly branches: readonly [Branch, Branch];
  readonly #stream: Readable;
  #reader: DefaultReader | ByobReader;
  readonly #cancelled = new Deferred();
  #reading = false;
  /** The same for all chunks. */
  readonly #readRequest: ReadRequest = {
    chunk: (chunk) => microtask(() => this.#deliver(chunk as Uint8Array<ArrayBuffer>)),
    close: () => this.#closeBranches(),
    error: () => void (this.#reading = false),
  };

  constructor(stream: Readable) {
    this.#stream = stream;
    this.#reader = new DefaultReader(stream);
    this.branches = [new Branch(this), new Branch(this)];
    if (stream.state === ERRORED) this.sourceFailed(stream.storedError);
    else this.#reader.watcher = this;
  }

  pull(branch: Branch): void {
    if (this.#reading) {
      branch.readAgain = true;
      return;
    }
    this.#reading = true;
    const first = branch.controller.pending[0];
    if (first === undefined) {
      this.#readChunk();
      return;
    }
    this.#readInto(branch, new Uint8Array(first.buffer, first.offset + first.filled, first.length - first.filled));
  }

  #readChunk(): void {
    if (this.#reader.isByob) {
      this.#reader.release();
      this.#reader = new DefaultReader(this.#stream);
      this.#reader.watcher = this;
    }
    this.#reader.read(this.#readRequest);
  }

  #deliver(chunk: Uint8Array<ArrayBuffer>): void {
    const [first, second] = this.branches;
    first.readAgain = second.readAgain = false;
    const copy = first.cancelled || second.cancelled ? chunk : chunk.slice();
    if (!first.cancelled) first.controller.enqueueOwned(chunk);
    if (!second.cancelled) second.controller.enqueueOwned(copy);
    this.#goOn();
  }

  #goOn(): void {
    this.#reading = false;
    const [first, second] = this.branches;
    if (first.readAgain) this.pull(first);
    else if (second.readAgain) this.pull(second);
  }

  #closeBranches(): void {
    this.#reading = false;
    const [first, second] = this.branches;
    const both = first.cancelled && second.cancelled;
    first.close();
    second.close();
    if (!both) this.#cancelled.resolve(undefined);
  }

  /** Reads into the view that one branch was given; the other one gets a copy. */
  #readInto(branch: Branch, view: Uint8Array<ArrayBuffer>): void {
    if (!this.#reader.isByob) {
      this.#reader.release();
      this.#reader = new ByobReader(this.#stream);
      this.#reader.watcher = this;
    }
    const other = branch === this.branches[0] ? this.branches[1] : this.branches[0];
    const request: ReadIntoRequest = {
      chunk: (filled) => microtask(() => this.#deliverView(branch, other, filled as Uint8Array<ArrayBuffer>)),
      close: (empty) => {
        this.#reading = false;
        const both = branch.cancelled && other.cancelled;
        if (empty !== undefined) branch.close(empty as Uint8Array<ArrayBuffer>);
        else if (!branch.cancelled) branch.controller.close();
        other.close();
        if (!both) this.#cancelled.resolve(undefined);
      },
      error: () => void (this.#reading = false),
    };
    this.#reader.read(view, 1, request);
  }

  #deliverView(branch: Branch, other: Branch, view: Uint8Array<ArrayBuffer>): void {
    branch.readAgain = other.readAgain = false;
    const copy = other.cancelled ? null : view.slice();
    if (!branch.cancelled) branch.controller.respondWithView(view);
    if (copy !== null) other.controller.enqueueOwned(copy);
    this.#goOn();
  }

  cancel(): Promise<unknown> {
    const [first, second] = this.branches;
    if (first.cancelled && second.cancelled) {
      this.#cancelled.resolve(this.#stream.cancel([first.reason, second.reason]));
    }
    return this.#cancelled.promise;
  }

  sourceClosed(): void {}

  sourceFailed(reason: unknown): void {
    const [first, second] = this.branches;
    // After bytes that are on their way to the branches.
    microtask(() => {
      const both = first.cancelled && second.cancelled;
      first.controller.fail(reason);
      second.controller.fail(reason);
      if (!both) this.#cancelled.resolve(undefined);
    });
  }
}
