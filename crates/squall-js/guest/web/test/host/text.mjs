// The operations of encodings and base64, with node's own. Node.js knows fewer encodings than the
// real host, and some less exactly.

import { Refusal } from "./refusal.mjs";

// Node.js decodes windows-1252 as ISO 8859-1: these are the places where that is wrong.
const WINDOWS_1252 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ";

const singleByte = {
  "windows-1252": (byte) => (byte >= 0x80 && byte < 0xa0 ? WINDOWS_1252[byte - 0x80] : String.fromCharCode(byte)),
  "x-user-defined": (byte) => String.fromCharCode(byte < 0x80 ? byte : 0xf780 + byte - 0x80),
};

function makeDecoder(encoding, fatal, keepBom) {
  const character = singleByte[encoding];
  if (character !== undefined) return { decode: (bytes) => Array.from(bytes, character).join("") };
  try {
    return new TextDecoder(encoding, { fatal, ignoreBOM: keepBom });
  } catch {
    throw new Refusal("RangeError", `node does not know ${encoding}`);
  }
}

/** null for malformed input. */
function write(decoder, bytes, last) {
  try {
    return decoder.decode(bytes, { stream: !last });
  } catch {
    return null;
  }
}

/** https://infra.spec.whatwg.org/#forgiving-base64-decode */
function forgivingDecode(text) {
  let data = text.replace(/[\t\n\f\r ]/g, "");
  if (data.length % 4 === 0) data = data.replace(/={1,2}$/, "");
  if (data.length % 4 === 1 || /[^A-Za-z0-9+/]/.test(data)) return null;
  return new Uint8Array(Buffer.from(data, "base64"));
}

export function makeTextOperations() {
  const decoders = new Map();
  let last = 0;
  return {
    40: (encoding, fatal, keepBom, bytes) => write(makeDecoder(encoding, fatal, keepBom), bytes, true),
    41(encoding, fatal, keepBom) {
      decoders.set(++last, makeDecoder(encoding, fatal, keepBom));
      return last;
    },
    42(handle, bytes, isLast) {
      const decoder = decoders.get(handle);
      if (decoder === undefined) throw new Refusal("TypeError", "This decoder ended with its request");
      const text = write(decoder, bytes, isLast);
      if (isLast || text === null) decoders.delete(handle);
      return text;
    },
    43: (bytes, urlSafe) => Buffer.from(bytes).toString(urlSafe ? "base64url" : "base64"),
    44: (text, lenient) => (lenient ? new Uint8Array(Buffer.from(text, "base64")) : forgivingDecode(text)),
  };
}
