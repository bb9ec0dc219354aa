// TransformStream and its controller as programs see them, and the base of the runtime's own
// transforms.
// https://streams.spec.whatwg.org/#ts-class

import { finishInterface } from "../interface.js";
import { type AnyFunction, dictionary, isObject } from "../webidl.js";
import { apply, invoke } from "./promises.js";
import type { ReadableStream } from "./readable-stream.js";
import { wrapReadable } from "./readable-stream.js";
import { highWaterMarkOf, readStrategy } from "./strategies.js";
import { DEFAULT_MARKS, Transform, type Transformer, type TransformMarks } from "./transform.js";
import { optionalFunction } from "./user-source.js";
import { wrapWritable, type WritableStream } from "./writable-stream.js";

export class TransformStream {
  #readable: ReadableStream;
  #writable: WritableStream;

  constructor(transformer: unknown = undefined, writableStrategy: unknown = undefined, readableStrategy: unknown = undefined) {
    if (transformer !== undefined && !isObject(transformer)) {
      throw new TypeError("The transformer of a TransformStream is not an object");
    }
    const writing = readStrategy(writableStrategy);
    const reading = readStrategy(readableStrategy);
    const given = dictionary(transformer, "The transformer of a TransformStream") ?? {};
    const cancel = optionalFunction(given, "cancel");
    const flush = optionalFunction(given, "flush");
    if (given["readableType"] !== undefined) throw new RangeError("There are no types of readable sides");
    const start = optionalFunction(given, "start");
    const transform = optionalFunction(given, "transform");
    if (given["writableType"] !== undefined) throw new RangeError("There are no types of writable sides");
    const readableMark = highWaterMarkOf(reading, 0);
    const marks: TransformMarks = {
      writableMark: highWaterMarkOf(writing, 1),
      writableSize: writing.size,
      readableMark,
      readableSize: reading.size,
    };
    const own = new UserTransformer(transformer, transform, flush, cancel);
    const running = new Transform(own, marks);
    own.controller = wrapTransform(running);
    this.#readable = wrapReadable(running.readable.stream);
    this.#writable = wrapWritable(running.writable.stream);
    running.begin(start === undefined ? undefined : apply(start, transformer, [own.controller]));
  }

  get readable(): ReadableStream {
    return this.#readable;
  }

  get writable(): WritableStream {
    return this.#writable;
  }
}

finishInterface(TransformStream);

class UserTransformer implements Transformer {
  /** The public controller. */
  controller: object | null = null;
  readonly #owner: unknown;
  readonly #transform: AnyFunction | undefined;
  readonly #flush: AnyFunction | undefined;
  readonly #cancel: AnyFunction | undefined;

  constructor(
    owner: unknown,
    transform: AnyFunction | undefined,
    flush: AnyFunction | undefined,
    cancel: AnyFunction | undefined,
  ) {
    this.#owner = owner;
    this.#transform = transform;
    this.#flush = flush;
    this.#cancel = cancel;
  }

  transform(chunk: unknown, transform: Transform): Promise<unknown> | null {
    if (this.#transform !== undefined) return invoke(this.#transform, this.#owner, [chunk, this.controller]);
    transform.enqueue(chunk);
    return null;
  }

  flush(): Promise<unknown> | null {
    return this.#flush === undefined ? null : invoke(this.#flush, this.#owner, [this.controller]);
  }

  cancel(reason: unknown): Promise<unknown> | null {
    return this.#cancel === undefined ? null : invoke(this.#cancel, this.#owner, [reason]);
  }
}

let wrapTransform: (transform: Transform) => TransformStreamDefaultController;
/** What the next controller is to stand for. */
let wrapped: Transform | null = null;

// https://streams.spec.whatwg.org/#ts-default-controller-class
export class TransformStreamDefaultController {
  #transform: Transform;

  static {
    wrapTransform = (transform) => {
      wrapped = transform;
      return new TransformStreamDefaultController();
    };
  }

  constructor() {
    if (wrapped === null) throw new TypeError("Illegal constructor");
    this.#transform = wrapped;
    wrapped = null;
  }

  get desiredSize(): number | null {
    return this.#transform.readable.desiredSize;
  }

  enqueue(chunk: unknown = undefined): void {
    this.#transform.enqueue(chunk);
  }

  error(reason: unknown = undefined): void {
    this.#transform.fail(reason);
  }

  terminate(): void {
    this.#transform.terminate();
  }
}

finishInterface(TransformStreamDefaultController);

/** The two ends of a transform of the runtime's own. */
export class TransformEnds {
  readonly readable: ReadableStream;
  readonly writable: WritableStream;

  constructor(transformer: Transformer) {
    const running = new Transform(transformer, DEFAULT_MARKS);
    this.readable = wrapReadable(running.readable.stream);
    this.writable = wrapWritable(running.writable.stream);
    running.begin(undefined);
  }
}
