// TextDecoder. UTF-8 is decoded by the engine itself; of a stream this module keeps the bytes of
// a character that is not complete. All other encodings are the host's.
// https://encoding.spec.whatwg.org/#interface-textdecoder

import { viewBytes } from "../blob.js";
import { host } from "../host.js";
import { finishInterface } from "../interface.js";
import { DECODE, DECODER_NEW, DECODER_WRITE } from "../ops.js";
import { dictionary, domString } from "../webidl.js";
import { encodingOf } from "./labels.js";

const NO_BYTES = new Uint8Array(0);
const BOM = 0xfeff;
const NO_DECODER = -1;

export class TextDecoder {
  #encoding: string;
  #fatal: boolean;
  #ignoreBom: boolean;
  /** Whether the bytes of the last call are continued by those of the next one. */
  #streaming = false;
  /** UTF-8: the beginning of a character. */
  #pending: Uint8Array = NO_BYTES;
  /** UTF-8: whether the place of a byte order mark is behind. */
  #begun = false;
  /** Other encodings: the host's decoder of this stream. */
  #decoder = NO_DECODER;

  constructor(label: unknown = "utf-8", options: unknown = undefined) {
    const given = dictionary(options, "The options of a TextDecoder");
    const encoding = label === "utf-8" ? label : encodingOf(domString(label));
    if (encoding === undefined || encoding === "replacement") {
      throw new RangeError(`${JSON.stringify(domString(label))} is no label of an encoding`);
    }
    this.#encoding = encoding;
    this.#fatal = Boolean(given?.["fatal"]);
    this.#ignoreBom = Boolean(given?.["ignoreBOM"]);
  }

  get encoding(): string {
    return this.#encoding;
  }

  get fatal(): boolean {
    return this.#fatal;
  }

  get ignoreBOM(): boolean {
    return this.#ignoreBom;
  }

  decode(input: unknown = undefined, options: unknown = undefined): string {
    const bytes = input === undefined ? NO_BYTES : bytesOf(input);
    const stream = options === undefined ? false : Boolean(dictionary(options, "The options of decode")?.["stream"]);
    const text = this.#encoding === "utf-8" ? this.#decodeUtf8(bytes, stream) : this.#decodeByHost(bytes, stream);
    if (text === null) {
      this.#reset();
      throw new TypeError(`The bytes are no well-formed ${this.#encoding}`);
    }
    return text;
  }

  #reset(): void {
    this.#streaming = this.#begun = false;
    this.#pending = NO_BYTES;
    this.#decoder = NO_DECODER;
  }

  #decodeUtf8(bytes: Uint8Array, stream: boolean): string | null {
    if (!stream && !this.#streaming) return this.#withoutBom(host.utf8Decode(bytes, this.#fatal));
    let whole = bytes;
    if (this.#pending.length > 0) {
      whole = new Uint8Array(this.#pending.length + bytes.length);
      whole.set(this.#pending);
      whole.set(bytes, this.#pending.length);
      this.#pending = NO_BYTES;
    }
    if (stream) {
      const complete = completeLength(whole);
      if (complete < whole.length) {
        this.#pending = whole.slice(complete);
        whole = whole.subarray(0, complete);
      }
    }
    let text = host.utf8Decode(whole, this.#fatal);
    if (!this.#begun && text !== null && text !== "") {
      text = this.#withoutBom(text);
      this.#begun = true;
    }
    this.#streaming = stream;
    if (!stream) this.#begun = false;
    return text;
  }

  #withoutBom(text: string | null): string | null {
    return text === null || this.#ignoreBom || text.charCodeAt(0) !== BOM ? text : text.slice(1);
  }

  #decodeByHost(bytes: Uint8Array, stream: boolean): string | null {
    if (!stream && !this.#streaming) {
      return host.call(DECODE, this.#encoding, this.#fatal, this.#ignoreBom, bytes) as string | null;
    }
    if (!this.#streaming) {
      this.#decoder = host.call(DECODER_NEW, this.#encoding, this.#fatal, this.#ignoreBom) as number;
    }
    this.#streaming = stream;
    return host.call(DECODER_WRITE, this.#decoder, bytes, !stream) as string | null;
  }
}

finishInterface(TextDecoder);

function bytesOf(input: unknown): Uint8Array {
  const bytes = typeof input === "object" && input !== null ? viewBytes(input) : null;
  if (bytes === null && !isSharedBuffer(input)) throw new TypeError("decode takes an ArrayBuffer or a view of one");
  return bytes ?? new Uint8Array(input as ArrayBuffer);
}

function isSharedBuffer(value: unknown): boolean {
  return Object.prototype.toString.call(value) === "[object SharedArrayBuffer]";
}

/**
 * The length without the beginning of a character at the end that more bytes could complete.
 * Table 3-7 of the Unicode standard says which bytes may follow which.
 */
function completeLength(bytes: Uint8Array): number {
  const end = bytes.length;
  for (let back = 1; back <= 3 && back <= end; back++) {
    const byte = bytes[end - back]!;
    if (byte < 0x80) return end;
    if (byte < 0xc0) continue;
    const needed = byte < 0xc2 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf5 ? 4 : 1;
    if (back >= needed) return end;
    if (back >= 2 && !mayFollow(byte, bytes[end - back + 1]!)) return end;
    return end - back;
  }
  return end;
}

/** Whether a second byte fits its lead byte, where not all continuation bytes do. */
function mayFollow(lead: number, second: number): boolean {
  switch (lead) {
    case 0xe0:
      return second >= 0xa0;
    case 0xed:
      return second <= 0x9f;
    case 0xf0:
      return second >= 0x90;
    case 0xf4:
      return second <= 0x8f;
    default:
      return true;
  }
}
