// fetch: the request crosses in one operation, the head of the response comes back as its
// result, and bodies flow by their own operations or stay in the host altogether.
// https://fetch.spec.whatwg.org/#fetch-method

import type { AbortSignal } from "../abort.js";
import { bytesOfBlob } from "../blob.js";
import { cancel, type HostValue, host, startWithNumber } from "../host.js";
import { refuseAtLoad } from "../load.js";
import { FETCH, FETCH_END, FETCH_WRITE } from "../ops.js";
import { HostWriter } from "../streams/host-writer.js";
import { heldBlob } from "./blob-url.js";
import { Body, type OutgoingBody } from "./body.js";
import { readDataUrl } from "./data-url.js";
import { findHeader } from "./headers.js";
import { Request, requestParts, type RequestParts } from "./request.js";
import { makeFetchedResponse, type Response } from "./response.js";
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
      parts.body?.fail(parts.signal.reason);
      return Promise.reject(parts.signal.reason);
    }
    if (parts.integrity !== "") {
      throw new TypeError("fetch does not offer integrity: check the body with crypto.subtle.digest instead");
    }
    return binding === null && !parts.url.startsWith("http") ? fetchLocally(request, parts) : fetchFromHost(parts, binding);
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
  if (streamed) writeBody(operation, body);
  if (parts.signal === null) return promise.then((value) => readHead(value).response);
  return abortable(parts.signal, operation, promise, streamed ? body : null);
}

/** The signal ends the request before the head of the response comes, and the body after. */
function abortable(
  signal: AbortSignal,
  operation: number,
  head: Promise<HostValue>,
  sending: ReadableStream | null,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    let received: Body | null = null;
    const abort = (): void => {
      cancel(operation);
      if (sending !== null) host.call(FETCH_END, operation, "aborted");
      received?.fail(signal.reason);
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    head.then((value) => {
      const response = readHead(value);
      received = response.body;
      resolve(response.response);
    }, reject);
  });
}

/** status, statusText, headers, handle, url, redirected */
type Head = [number, string, string[], number | null, string, boolean];

function readHead(value: HostValue): { response: Response; body: Body | null } {
  const [status, statusText, headers, handle, url, redirected] = value as Head;
  const body = handle === null ? null : new Body(null);
  if (body !== null) body.handle = handle!;
  return { response: makeFetchedResponse({ status, statusText, headers }, body, url, redirected), body };
}

function writeBody(operation: number, stream: ReadableStream): void {
  let ended = false;
  const writer = new HostWriter(stream, FETCH_WRITE, operation, (failure) => {
    // The request fails with it on the host's side; a server that answered early is no failure.
    if (!ended) host.call(FETCH_END, operation, failure === null ? null : String(failure.reason));
    ended = true;
  });
  writer.begin();
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
