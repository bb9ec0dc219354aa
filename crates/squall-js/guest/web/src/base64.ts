// atob and btoa; the host converts.
// https://html.spec.whatwg.org/#atob

import { DOMException } from "./errors.js";
import { host } from "./host.js";
import { BASE64_DECODE, BASE64_ENCODE } from "./ops.js";
import { domString, requireArguments } from "./webidl.js";

export function encodeBase64(bytes: Uint8Array, urlSafe: boolean): string {
  return host.call(BASE64_ENCODE, bytes, urlSafe) as string;
}

/** null when the text is no base64. */
export function decodeBase64(text: string, lenient: boolean): Uint8Array | null {
  return host.call(BASE64_DECODE, text, lenient) as Uint8Array | null;
}

export const base64Functions = {
  btoa(data: unknown): string {
    requireArguments(arguments.length, 1, "btoa");
    const bytes = host.latin1Encode(domString(data));
    if (bytes === null) {
      throw new DOMException("btoa takes characters up to U+00FF; encode the text first", "InvalidCharacterError");
    }
    return encodeBase64(bytes, false);
  },
  atob(data: unknown): string {
    requireArguments(arguments.length, 1, "atob");
    const bytes = decodeBase64(domString(data), false);
    if (bytes === null) throw new DOMException("The text is no base64", "InvalidCharacterError");
    return host.latin1Decode(bytes);
  },
};
