// FileReader, for programs that were written before Blob had text() and arrayBuffer(). The bytes
// are at hand, so reading is a matter of events, each of them a turn of its own.
// https://w3c.github.io/FileAPI/#APIASynch

import { encodeBase64 } from "./base64.js";
import { type Blob, bytesOfBlob, isBlob } from "./blob.js";
import { encodingOf } from "./encoding/labels.js";
import { TextDecoder } from "./encoding/text-decoder.js";
import { DOMException } from "./errors.js";
import { defineEventHandler, dispatch, Event, EventTarget, ProgressEvent, trusted } from "./events.js";
import { parseMimeType } from "./fetch/mime-type.js";
import { cancel, host, startWithCallback } from "./host.js";
import { defineConstants, finishInterface } from "./interface.js";
import { refuseAtLoad } from "./load.js";
import { SLEEP } from "./ops.js";
import { domString, isObject, requireArguments } from "./webidl.js";

const EMPTY = 0;
const LOADING = 1;
const DONE = 2;
const EVENTS = ["loadstart", "progress", "load", "abort", "error", "loadend"];

type Result = string | ArrayBuffer;

export class FileReader extends EventTarget {
  #state = EMPTY;
  #result: Result | null = null;
  /** The operation that brings the next event of the reading under way. */
  #next = 0;

  readAsArrayBuffer(blob: unknown): void {
    this.#read(blob, arguments.length, (bytes) => bytes.slice().buffer as ArrayBuffer);
  }

  readAsBinaryString(blob: unknown): void {
    this.#read(blob, arguments.length, (bytes) => host.latin1Decode(bytes));
  }

  readAsText(blob: unknown, encoding: unknown = undefined): void {
    const label = encoding === undefined ? null : domString(encoding);
    this.#read(blob, arguments.length, (bytes, type) => decode(bytes, label, type));
  }

  readAsDataURL(blob: unknown): void {
    this.#read(blob, arguments.length, (bytes, type) => {
      return `data:${type === "" ? "application/octet-stream" : type};base64,${encodeBase64(bytes, false)}`;
    });
  }

  abort(): void {
    const loading = this.#state === LOADING;
    this.#result = null;
    if (!loading) return;
    this.#state = DONE;
    cancel(this.#next);
    this.#fire("abort", 0, 0);
    // A listener may have begun to read again.
    if ((this.#state as number) !== LOADING) this.#fire("loadend", 0, 0);
  }

  get readyState(): number {
    return this.#state;
  }

  get result(): Result | null {
    return this.#result;
  }

  /** Bytes in memory can always be read. */
  get error(): DOMException | null {
    this.#state;
    return null;
  }

  #read(value: unknown, given: number, convert: (bytes: Uint8Array, type: string) => Result): void {
    const state = this.#state;
    requireArguments(given, 1, "FileReader");
    if (!isObject(value) || !isBlob(value)) throw new TypeError("FileReader reads a Blob");
    if (state === LOADING) throw new DOMException("This FileReader is reading already", "InvalidStateError");
    refuseAtLoad("FileReader");
    this.#state = LOADING;
    this.#result = null;
    const blob = value as Blob;
    const { size } = blob;
    const steps = [
      () => this.#fire("loadstart", 0, size),
      () => this.#fire("progress", size, size),
      () => {
        this.#state = DONE;
        this.#result = convert(bytesOfBlob(blob), blob.type);
        this.#fire("load", size, size);
      },
      () => this.#fire("loadend", size, size),
    ];
    // Nothing progresses where there is nothing.
    if (size === 0) steps.splice(1, 1);
    this.#run(steps);
  }

  #run(steps: (() => void)[]): void {
    const operation = startWithCallback(() => {
      steps.shift()!();
      // Not when a listener has aborted this reading, or has begun another one.
      if (steps.length > 0 && this.#next === operation) this.#run(steps);
    }, SLEEP, 0);
    this.#next = operation;
  }

  #fire(type: string, loaded: number, total: number): void {
    const event = new ProgressEvent(type, { lengthComputable: total > 0, loaded, total });
    dispatch(this, trusted(event as Event), this);
  }
}

finishInterface(FileReader);
defineConstants(FileReader, { EMPTY, LOADING, DONE });
for (const type of EVENTS) defineEventHandler(FileReader.prototype, type);

/** The byte order mark decides, then the label that was given, then the type's charset. */
// https://w3c.github.io/FileAPI/#packaging-data
function decode(bytes: Uint8Array, label: string | null, type: string): string {
  const charset = (): string | undefined => parseMimeType(type)?.parameters.get("charset");
  const encoding = (label === null ? undefined : encodingOf(label)) ?? encodingOf(charset() ?? "utf-8") ?? "utf-8";
  return new TextDecoder(encodingOfMark(bytes) ?? encoding).decode(bytes);
}

function encodingOfMark(bytes: Uint8Array): string | null {
  const [first, second, third] = bytes;
  if (first === 0xef && second === 0xbb && third === 0xbf) return "utf-8";
  if (first === 0xfe && second === 0xff) return "utf-16be";
  if (first === 0xff && second === 0xfe) return "utf-16le";
  return null;
}
