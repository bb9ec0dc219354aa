// Bodies of requests and responses. A body that is whole stays whole: a string or bytes become a
// stream only when somebody asks for `.body`. One that comes from the host is a handle until then.
// https://fetch.spec.whatwg.org/#body-mixin

import { bytesOfBlob, isBlob, makeBlob, viewBytes, type Blob } from "../blob.js";
import { formEntriesOf, isFormData, makeFormData, type FormData } from "../form-data.js";
import { cancel, host, startWithCallbacks } from "../host.js";
import { BODY_CANCEL, BODY_READ_ALL, BODY_TAKE } from "../ops.js";
import { parseForm } from "../url/form-encoding.js";
import { isSearchParams } from "../url/search-params.js";
import { usvString } from "../webidl.js";
import { extractMimeType, serializeMimeType } from "./mime-type.js";
import { makeBoundary, parseMultipart, writeMultipart } from "./multipart.js";
import {
  cancelStream,
  createHostStream,
  failStream,
  isDisturbed,
  isReadableStream,
  proxyOf,
  readAllBytes,
  type ReadableStream,
  streamOfWhole,
  takeUnread,
  teeForBodies,
} from "./stream-access.js";

/** What RESPOND and FETCH take: nothing, the whole, a handle to forward, or a stream to write. */
export type OutgoingBody = null | string | Uint8Array | [number] | ReadableStream;

export class Body {
  /** The whole of it, while nobody has asked for a stream. */
  whole: string | Uint8Array | null;
  /** The host's number of a body that has not been opened; -1 when there is none. */
  handle = -1;
  stream: ReadableStream | null = null;
  used = false;
  /** Why nothing can be read any more: a fetch was aborted. */
  failure: { reason: unknown } | null = null;
  /** Settles the reading that is under way when a fetch is aborted. */
  onFailure: ((reason: unknown) => void) | null = null;

  constructor(whole: string | Uint8Array | null) {
    this.whole = whole;
  }

  get disturbed(): boolean {
    return this.used || (this.stream !== null && isDisturbed(this.stream));
  }

  get unusable(): boolean {
    return this.used || (this.stream !== null && (this.stream.locked || isDisturbed(this.stream)));
  }

  /** The body as a stream, made now if need be. */
  open(): ReadableStream {
    if (this.stream !== null) return this.stream;
    if (this.used) {
      // Reading took it, and never lets go of it.
      this.stream = streamOfWhole("");
      void this.stream.getReader().cancel();
    } else if (this.handle >= 0) {
      this.stream = createHostStream(this.handle);
    } else {
      this.stream = streamOfWhole(this.whole!);
    }
    this.whole = null;
    this.handle = -1;
    return this.stream;
  }

  /** Two bodies with the same contents; this one becomes the first. */
  tee(): Body {
    const copy = new Body(this.whole);
    if (this.whole === null) {
      [this.stream, copy.stream] = teeForBodies(this.open());
    }
    return copy;
  }

  /** The contents move to the body that is returned; this one is used afterwards. */
  move(): Body {
    const moved = new Body(this.whole);
    moved.handle = this.handle;
    if (this.stream !== null && !moved.adopt(this.stream)) moved.stream = proxyOf(this.stream);
    this.used = true;
    return moved;
  }

  /** For sending: the body is used afterwards. */
  take(): OutgoingBody {
    if (this.unusable) throw new TypeError("The body has been used already, or is being read");
    this.used = true;
    if (this.whole !== null) return this.whole;
    if (this.handle >= 0) return [this.handle];
    const unread = takeUnread(this.stream!);
    if (unread === null) return this.stream!;
    return typeof unread === "number" ? [unread] : unread;
  }

  /** Takes what the stream would give, where it is one of ours and nobody has read from it. */
  adopt(stream: ReadableStream): boolean {
    const unread = takeUnread(stream);
    if (typeof unread === "number") this.handle = unread;
    else this.whole = unread;
    return unread !== null;
  }

  /** Nobody will send it. */
  cancel(reason: unknown): void {
    this.used = true;
    if (this.stream !== null) cancelStream(this.stream, reason);
    else if (this.handle >= 0) host.call(BODY_CANCEL, this.handle);
  }

  /** Ends it before its time. */
  fail(reason: unknown): void {
    this.failure = { reason };
    if (this.stream !== null) failStream(this.stream, reason);
    else if (this.handle >= 0) host.call(BODY_CANCEL, this.handle);
    this.onFailure?.(reason);
  }
}

/** A body and the Content-Type it implies, from anything that a constructor takes. */
// https://fetch.spec.whatwg.org/#bodyinit-safely-extract
export function extractBody(value: unknown): { body: Body; type: string | null } {
  if (typeof value === "object" && value !== null) {
    if (isReadableStream(value)) {
      if (value.locked || isDisturbed(value)) throw new TypeError("The stream is locked or has been read");
      const body = new Body(null);
      body.stream = value;
      return { body, type: null };
    }
    if (isBlob(value)) return { body: new Body(bytesOfBlob(value)), type: value.type || null };
    const bytes = viewBytes(value);
    if (bytes !== null) return { body: new Body(bytes.slice()), type: null };
    if (isFormData(value)) {
      const boundary = makeBoundary();
      const type = `multipart/form-data; boundary=${boundary}`;
      return { body: new Body(writeMultipart(formEntriesOf(value), boundary)), type };
    }
    if (isSearchParams(value)) {
      return { body: new Body(value.toString()), type: "application/x-www-form-urlencoded;charset=UTF-8" };
    }
  }
  return { body: new Body(usvString(value)), type: "text/plain;charset=UTF-8" };
}

/** What the mixin asks of a Request or a Response. */
export interface BodyAccess {
  /** Checks the brand and gives the body or null. */
  bodyOf(owner: object): Body | null;
  contentTypeOf(owner: object): string | null;
}

/** Puts body, bodyUsed and the readers on a prototype. */
export function defineBodyMixin(prototype: object, access: BodyAccess): void {
  const read = <T>(owner: object, asText: boolean, convert: (whole: never) => T): Promise<T> => {
    let body: Body | null;
    try {
      body = access.bodyOf(owner);
    } catch (error) {
      return Promise.reject(error);
    }
    if (body === null) return settled(asText ? "" : new Uint8Array(0), convert);
    return consume(body, asText, convert);
  };
  const members = {
    get body(): ReadableStream | null {
      return access.bodyOf(this)?.open() ?? null;
    },
    get bodyUsed(): boolean {
      return access.bodyOf(this)?.disturbed ?? false;
    },
    arrayBuffer(): Promise<ArrayBuffer> {
      return read(this, false, ownBuffer);
    },
    blob(): Promise<Blob> {
      return read(this, false, (bytes: Uint8Array) => {
        const type = extractMimeType(access.contentTypeOf(this));
        return makeBlob(bytes, type === null ? "" : serializeMimeType(type));
      });
    },
    bytes(): Promise<Uint8Array> {
      return read(this, false, (bytes: Uint8Array) => bytes);
    },
    formData(): Promise<FormData> {
      return read(this, false, (bytes: Uint8Array) => parseFormBody(bytes, access.contentTypeOf(this)));
    },
    json(): Promise<unknown> {
      return read(this, true, JSON.parse as (text: string) => unknown);
    },
    text(): Promise<string> {
      return read(this, true, (text: string) => text);
    },
  };
  Object.defineProperties(prototype, Object.getOwnPropertyDescriptors(members));
}

function ownBuffer(bytes: Uint8Array): ArrayBuffer {
  const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  return (whole ? bytes : bytes.slice()).buffer as ArrayBuffer;
}

function settled<T>(whole: string | Uint8Array, convert: (whole: never) => T): Promise<T> {
  try {
    return Promise.resolve(convert(whole as never));
  } catch (error) {
    return Promise.reject(error);
  }
}

/** The whole of a body, which is used afterwards. */
export function readBytes(body: Body): Promise<Uint8Array> {
  return consume(body, false, (bytes: Uint8Array) => bytes);
}

function consume<T>(body: Body, asText: boolean, convert: (whole: never) => T): Promise<T> {
  if (body.failure !== null) {
    body.used = true;
    return Promise.reject(body.failure.reason);
  }
  if (body.unusable) {
    return Promise.reject(new TypeError("The body has been used already, or is being read"));
  }
  if (body.stream !== null) body.adopt(body.stream);
  const whole = body.whole;
  if (whole !== null) {
    body.used = true;
    if (asText) return settled(typeof whole === "string" ? withoutBom(whole) : decode(whole), convert);
    return settled(typeof whole === "string" ? host.utf8Encode(whole) : whole.slice(), convert);
  }
  if (body.handle >= 0) {
    // A short body is here with its head, and needs no waiting.
    try {
      const here = host.call(BODY_TAKE, body.handle, asText) as string | Uint8Array | null;
      if (here !== null) {
        body.used = true;
        return settled(here, convert);
      }
    } catch (error) {
      body.used = true;
      return Promise.reject(error);
    }
  }
  // Without promises between: what they pass on may have a `then` by the program's doing.
  return new Promise((resolve, reject) => {
    body.onFailure = reject;
    const finish = (read: unknown): void => {
      try {
        resolve(convert(read as never));
      } catch (error) {
        reject(error);
      }
    };
    if (body.handle >= 0) {
      body.used = true;
      const operation = startWithCallbacks(finish, reject, BODY_READ_ALL, body.handle, asText);
      body.onFailure = (reason) => {
        cancel(operation);
        reject(reason);
      };
    } else {
      readAllBytes(body.stream!, asText ? (bytes) => finish(decode(bytes)) : finish, reject);
    }
  });
}

function decode(bytes: Uint8Array): string {
  return withoutBom(host.utf8Decode(bytes, false)!);
}

function withoutBom(text: string): string {
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

// https://fetch.spec.whatwg.org/#dom-body-formdata
function parseFormBody(bytes: Uint8Array, contentType: string | null): FormData {
  const type = extractMimeType(contentType);
  if (type?.essence === "application/x-www-form-urlencoded") {
    return makeFormData(parseForm(host.utf8Decode(bytes, false)!));
  }
  const boundary = type?.parameters.get("boundary");
  if (type?.essence === "multipart/form-data" && boundary !== undefined) {
    const entries = parseMultipart(bytes, boundary);
    if (entries === null) throw new TypeError("The body is no well-formed multipart/form-data");
    return makeFormData(entries);
  }
  throw new TypeError(`A body of type ${JSON.stringify(contentType ?? "")} is no form`);
}
