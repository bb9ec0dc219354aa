// TextEncoder.
// https://encoding.spec.whatwg.org/#interface-textencoder

import { host } from "../host.js";
import { finishInterface, setLength } from "../interface.js";
import { domString, requireArguments } from "../webidl.js";

const uint8ArrayTag = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)!.get!;

export class TextEncoder {
  readonly #brand = true;

  get encoding(): string {
    this.#brand;
    return "utf-8";
  }

  encode(input: unknown = ""): Uint8Array {
    this.#brand;
    return host.utf8Encode(domString(input));
  }

  encodeInto(source: unknown, destination: unknown): { read: number; written: number } {
    this.#brand;
    requireArguments(arguments.length, 2, "encodeInto");
    const text = domString(source);
    if (uint8ArrayTag.call(destination) !== "Uint8Array") throw new TypeError("encodeInto writes into a Uint8Array");
    const target = destination as Uint8Array;
    // No character of a string takes more than three bytes.
    const read = text.length * 3 <= target.length ? text.length : fittingLength(text, target.length);
    const bytes = host.utf8Encode(read === text.length ? text : text.slice(0, read));
    target.set(bytes);
    return { read, written: bytes.length };
  }
}

finishInterface(TextEncoder);
setLength(TextEncoder.prototype, "encodeInto", 2);

/** How many code units of the text take at most this many bytes; pairs stay together. */
function fittingLength(text: string, space: number): number {
  let index = 0;
  while (index < text.length) {
    const point = text.codePointAt(index)!;
    space -= point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    if (space < 0) break;
    index += point < 0x10000 ? 1 : 2;
  }
  return index;
}
