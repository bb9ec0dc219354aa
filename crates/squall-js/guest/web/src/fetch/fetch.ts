// fetch: the request crosses in one operation, the head of the response comes back as its
// result, and bodies flow by their own operations or stay in the host altogether.
// https://fetch.spec.whatwg.org/#fetch-method

import type { AbortSignal } from "../abort.js";
import { bytesOfBlob } from "../blob.js";
import { cancel, type HostValue, host, startWithNumber } from "../host.js";
import { refuseAtLoad } from "../load.js";
import { BODY_CANCEL, FETCH, FETCH_END, FETCH_WRITE } from "../ops.js";
import { HostWriter } from "../streams/host-writer.js";
import { heldBlob } from "./blob-url.js";
import { Body, type OutgoingBody } from "./body.js";
import { readDataUrl } from "./data-url.js";
import { findHeader } from "./headers.js";
import { matchesIntegrity } from "./integrity.js";
import { Request, requestParts, type RequestParts } from "./request.js";
import { isNullBodyStatus, makeFetchedResponse, readChecked, type Response } from "./response.js";
import { isReadableStream, type ReadableStream } from "./stream-access.js";

export function fetch(input: unknown, init: unknown = undefined): Promise<Response> {
  return fetchThrough(null, input, init);
}

/** fetch by way of a binding, or with null to the network. */
export function fetchThrough(binding: string | null, input: unknown, init: unknown): Promise<Response> {
  try {
    refuseAtLoad("fetch");
    // A request that nobody else sees needs no copy.
    const request = new Request(input, init);
    const parts = requestParts(request);
    if (parts.signal?.aborted === true) {
      parts.body?.cancel(parts.signal.reason);
      return Promise.reject(parts.signal.reason);
    }
    if (request.cache === "only-if-cached") throw new TypeError("There is no cache that could have the response");
    const local = binding === null && !parts.url.startsWith("http");
    const response = local ? fetchLocally(request, parts) : fetchFromHost(parts, binding);
    return parts.integrity === "" ? response : checked(response, parts.integrity);
  } catch (error) {
    return Promise.reject(error);
  }
}

function fetchFromHost(parts: RequestParts, binding: string | null): Promise<Response> {
  const body = parts.body === null ? null : parts.body.take();
  const streamed = isReadableStream(body);
  const sent: HostValue = streamed ? true : (body as Exclude<OutgoingBody, ReadableStream>);
  const { method, url, headers, redirect } = parts;
  const { operation, promise } = startWithNumber(FETCH, method, url, headers, sent, redirect, binding);
  const stopSending = streamed ? writeBody(operation, body).stop : null;
  if (parts.signal === null) return promise.then((value) => readHead(value).response);
  return abortable(parts.signal, operation, promise, stopSending);
}

/** The signal ends the request before the head of the response comes, and the body after. */
function abortable(
  signal: AbortSignal,
  operation: number,
  head: Promise<HostValue>,
  stopSending: ((reason: unknown) => void) | null,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    let received: Body | null = null;
    const abort = (): void => {
      const { reason } = signal;
      cancel(operation);
      stopSending?.(reason);
      received?.fail(reason);
      reject(reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    head.then((value) => {
      const response = readHead(value);
      received = response.body;
      resolve(response.response);
    }, reject);
  });
}

/** Reads the body whole, and gives it on when it is the one that is expected. */
async function checked(response: Promise<Response>, integrity: string): Promise<Response> {
  return readChecked(await response, async (bytes) => {
    if (await matchesIntegrity(bytes, integrity)) return;
    throw new TypeError(`The body does not match its integrity ${JSON.stringify(integrity)}`);
  });
}

/** status, statusText, headers, handle, url, redirected */
type Head = [number, string, string[], number | null, string, boolean];

export function readHead(value: HostValue): { response: Response; body: Body | null } {
  const [status, statusText, headers, handle, url, redirected] = value as Head;
  let body: Body | null = null;
  if (handle !== null) {
    if (isNullBodyStatus(status)) host.call(BODY_CANCEL, handle);
    else {
      body = new Body(null);
      body.handle = handle;
    }
  }
  return { response: makeFetchedResponse({ status, statusText, headers }, body, url, redirected), body };
}

/** A body on its way to the host. */
export interface BodyWriting {
  /** Ends it, if it has not ended; the stream is cancelled. */
  readonly stop: (reason: unknown) => void;
  /** Why the stream broke off, or the host took no more. */
  readonly failure: { reason: unknown } | null;
}

/** Writes a stream to an operation that waits for it. */
export function writeBody(operation: number, stream: ReadableStream): BodyWriting {
  let ended = false;
  let failed: { reason: unknown } | null = null;
  // The operation fails with a failure on the host's side; a server that answered early is none.
  const end = (failure: string | null): void => {
    if (!ended) host.call(FETCH_END, operation, failure);
    ended = true;
  };
  const writer = new HostWriter(stream, FETCH_WRITE, operation, (failure) => {
    failed = failure;
    end(failure === null ? null : String(failure.reason));
  });
  writer.begin();
  return {
    stop(reason) {
      if (ended) return;
      end("aborted");
      writer.stop(reason);
    },
    get failure() {
      return failed;
    },
  };
}

async function fetchLocally(request: Request, parts: RequestParts): Promise<Response> {
  const found = parts.url.startsWith("data:") ? readDataUrl(parts.url) : readBlobUrl(request, parts);
  if (found === null) throw new TypeError(`fetch can not reach ${JSON.stringify(parts.url)}`);
  const headers = ["content-type", found.type];
  if (parts.url.startsWith("blob:")) headers.push("content-length", `${found.bytes.length}`);
  const body = new Body(parts.method === "HEAD" ? new Uint8Array(0) : found.bytes);
  return makeFetchedResponse({ status: 200, statusText: "OK", headers }, body, parts.url, false);
}

function readBlobUrl(request: Request, parts: RequestParts): { type: string; bytes: Uint8Array } | null {
  if (!parts.url.startsWith("blob:") || parts.method !== "GET") return null;
  if (findHeader(parts.headers, "range", 0) >= 0) throw new TypeError("A blob: URL is fetched as a whole");
  const blob = heldBlob(request);
  return blob === null ? null : { type: blob.type, bytes: bytesOfBlob(blob) };
}
