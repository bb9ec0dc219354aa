// TextDecoderStream.
// https://encoding.spec.whatwg.org/#interface-textdecoderstream

import { finishInterface } from "../interface.js";
import type { ReadableStream } from "../streams/readable-stream.js";
import type { Transform, Transformer } from "../streams/transform.js";
import { TransformEnds } from "../streams/transform-stream.js";
import type { WritableStream } from "../streams/writable-stream.js";
import { TextDecoder } from "./text-decoder.js";

const decode = TextDecoder.prototype.decode;
const MORE = { stream: true };

class Decoding implements Transformer {
  readonly decoder: TextDecoder;

  constructor(decoder: TextDecoder) {
    this.decoder = decoder;
  }

  transform(chunk: unknown, transform: Transform): null {
    // undefined is no chunk, though `decode` would take it.
    const text = decode.call(this.decoder, chunk ?? null, MORE);
    if (text !== "") transform.enqueue(text);
    return null;
  }

  flush(transform: Transform): null {
    const text = decode.call(this.decoder);
    if (text !== "") transform.enqueue(text);
    return null;
  }

  cancel(): null {
    return null;
  }
}

export class TextDecoderStream {
  #decoding: Decoding;
  #ends: TransformEnds;

  constructor(label: unknown = "utf-8", options: unknown = undefined) {
    this.#decoding = new Decoding(new TextDecoder(label, options));
    this.#ends = new TransformEnds(this.#decoding);
  }

  get encoding(): string {
    return this.#decoding.decoder.encoding;
  }

  get fatal(): boolean {
    return this.#decoding.decoder.fatal;
  }

  get ignoreBOM(): boolean {
    return this.#decoding.decoder.ignoreBOM;
  }

  get readable(): ReadableStream {
    return this.#ends.readable;
  }

  get writable(): WritableStream {
    return this.#ends.writable;
  }
}

finishInterface(TextDecoderStream);
