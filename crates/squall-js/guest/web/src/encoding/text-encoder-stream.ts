// TextEncoderStream.
// https://encoding.spec.whatwg.org/#interface-textencoderstream

import { host } from "../host.js";
import { finishInterface } from "../interface.js";
import type { ReadableStream } from "../streams/readable-stream.js";
import type { Transform, Transformer } from "../streams/transform.js";
import { TransformEnds } from "../streams/transform-stream.js";
import type { WritableStream } from "../streams/writable-stream.js";
import { domString } from "../webidl.js";

class Encoding implements Transformer {
  /** The first half of a character whose second half begins the next chunk. */
  #leadSurrogate = "";

  transform(chunk: unknown, transform: Transform): null {
    let text = domString(chunk);
    if (text === "") return null;
    text = this.#leadSurrogate + text;
    this.#leadSurrogate = "";
    const last = text.charCodeAt(text.length - 1);
    if (last >= 0xd800 && last <= 0xdbff) {
      this.#leadSurrogate = text.slice(-1);
      text = text.slice(0, -1);
    }
    if (text !== "") transform.enqueue(host.utf8Encode(text));
    return null;
  }

  flush(transform: Transform): null {
    if (this.#leadSurrogate !== "") transform.enqueue(host.utf8Encode(this.#leadSurrogate));
    return null;
  }

  cancel(): null {
    return null;
  }
}

export class TextEncoderStream {
  #ends = new TransformEnds(new Encoding());

  get encoding(): string {
    void this.#ends;
    return "utf-8";
  }

  get readable(): ReadableStream {
    return this.#ends.readable;
  }

  get writable(): WritableStream {
    return this.#ends.writable;
  }
}

finishInterface(TextEncoderStream);
