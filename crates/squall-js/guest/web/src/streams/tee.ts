// tee of a stream that is not a byte stream: both branches get the same chunks.
// https://streams.spec.whatwg.org/#abstract-opdef-readablestreamdefaulttee

import { type DefaultController, makeDefaultStream } from "./default-controller.js";
import { Deferred, microtask } from "./promises.js";
import { EMPTY, ERRORED, type Readable, type ReadRequest, type Source } from "./readable.js";
import { DefaultReader, type ReaderWatcher } from "./readers.js";

/** What makes the second branch's chunks of those of the first; null where they share them. */
export type CloneChunk = ((chunk: unknown) => unknown) | null;

export function teeChunks(stream: Readable, clone: CloneChunk): [Readable, Readable] {
  const tee = new Tee(stream, clone);
  return [tee.branches[0].controller.stream, tee.branches[1].controller.stream];
}

class Branch implements Source {
  readonly pulls = true;
  readonly tee: Tee;
  readonly controller: DefaultController;
  cancelled = false;
  reason: unknown = undefined;

  constructor(tee: Tee) {
    this.tee = tee;
    this.controller = makeDefaultStream(this, 1);
  }

  pull(): null {
    this.tee.pull();
    this.controller.pulled();
    return null;
  }

  cancel(reason: unknown): Promise<unknown> {
    this.cancelled = true;
    this.reason = reason;
    return this.tee.cancel();
  }
}

class Tee implements ReadRequest, ReaderWatcher {
  readonly branches: readonly [Branch, Branch];
  readonly #stream: Readable;
  readonly #clone: CloneChunk;
  readonly #reader: DefaultReader;
  readonly #cancelled = new Deferred();
  #reading = false;
  #readAgain = false;
  #chunk: unknown = EMPTY;
  readonly #deliver = (): void => {
    this.#readAgain = false;
    const chunk = this.#chunk;
    this.#chunk = EMPTY;
    const [first, second] = this.branches;
    let copy = chunk;
    if (this.#clone !== null && !second.cancelled) {
      try {
        copy = this.#clone(chunk);
      } catch (error) {
        for (const { controller } of this.branches) controller.fail(error);
        this.#cancelled.resolve(this.#stream.cancel(error));
        return;
      }
    }
    if (!first.cancelled) first.controller.enqueue(chunk);
    if (!second.cancelled) second.controller.enqueue(copy);
    this.#reading = false;
    if (this.#readAgain) this.pull();
  };

  constructor(stream: Readable, clone: CloneChunk) {
    this.#stream = stream;
    this.#clone = clone;
    this.#reader = new DefaultReader(stream);
    this.branches = [new Branch(this), new Branch(this)];
    for (const { controller } of this.branches) controller.begin(undefined);
    if (stream.state === ERRORED) this.sourceFailed(stream.storedError);
    else this.#reader.watcher = this;
  }

  pull(): void {
    if (this.#reading) {
      this.#readAgain = true;
      return;
    }
    this.#reading = true;
    this.#reader.read(this);
  }

  cancel(): Promise<unknown> {
    const [first, second] = this.branches;
    if (first.cancelled && second.cancelled) {
      this.#cancelled.resolve(this.#stream.cancel([first.reason, second.reason]));
    }
    return this.#cancelled.promise;
  }

  /** Later, so that reading from one branch does not call into the other's readers. */
  chunk(chunk: unknown): void {
    this.#chunk = chunk;
    microtask(this.#deliver);
  }

  close(): void {
    this.#reading = false;
    this.#end(({ controller }) => controller.close());
  }

  error(): void {
    this.#reading = false;
  }

  sourceClosed(): void {}

  sourceFailed(reason: unknown): void {
    // After a chunk that is on its way to the branches.
    microtask(() => this.#end(({ controller }) => controller.fail(reason)));
  }

  #end(branchEnds: (branch: Branch) => void): void {
    const [first, second] = this.branches;
    const both = first.cancelled && second.cancelled;
    for (const branch of this.branches) {
      if (!branch.cancelled) branchEnds(branch);
    }
    if (!both) this.#cancelled.resolve(undefined);
  }
}
