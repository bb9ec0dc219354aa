// Response. Made for every request, so the constructor does as little as it can: a string stays
// a string, and headers stay the flat list that the host takes.
// https://fetch.spec.whatwg.org/#response-class

import { finishInterface } from "../interface.js";
import { parseUrlHere } from "../url/url.js";
import { usvString } from "../webidl.js";
import { Body, defineBodyMixin, extractBody, type OutgoingBody, readBytes } from "./body.js";
import { findHeader, headerListFrom, headerOf, type Headers, wrapHeaders } from "./headers.js";

// Lists that many responses share; copied before a Headers object may change them.
const NO_HEADERS: string[] = [];
const TEXT_HEADERS = ["content-type", "text/plain;charset=UTF-8"];
const JSON_HEADERS = ["content-type", "application/json"];

/** What only responses of fetch and of the static methods have. */
interface Origin {
  type: "basic" | "error" | "default";
  url: string;
  redirected: boolean;
  immutable: boolean;
}

const DEFAULT_ORIGIN: Origin = { type: "default", url: "", redirected: false, immutable: false };
const ERROR_ORIGIN: Origin = { type: "error", url: "", redirected: false, immutable: true };
const REDIRECT_ORIGIN: Origin = { type: "default", url: "", redirected: false, immutable: true };

/** A response as it is sent. */
export interface ResponseHead {
  status: number;
  statusText: string;
  headers: string[];
}

export let isResponse: (value: unknown) => value is Response;
/** A response that fetch received. */
export let makeFetchedResponse: (head: ResponseHead, body: Body | null, url: string, redirected: boolean) => Response;
/** The same head, and the body read, which `check` may refuse. */
export let readChecked: (response: Response, check: (bytes: Uint8Array) => Promise<void>) => Promise<Response>;
/** Takes the body out for sending; throws when it was used. */
export let takeResponseBody: (response: Response) => OutgoingBody;
/** The list behind the headers, not a copy. */
export let responseHeaderList: (response: Response) => string[];
let bodyOf: (response: Response) => Body | null;

export class Response {
  /** A string that nobody has looked at yet, or a body. */
  #body: string | Body | null = null;
  #status = 200;
  #statusText = "";
  #list: string[] = NO_HEADERS;
  #headers: Headers | null = null;
  #origin = DEFAULT_ORIGIN;

  static {
    isResponse = (value): value is Response => typeof value === "object" && value !== null && #body in value;
    makeFetchedResponse = (head, body, url, redirected) => {
      const response = new Response();
      response.#status = head.status;
      response.#statusText = head.statusText;
      response.#list = head.headers;
      response.#body = body;
      response.#origin = { type: "basic", url, redirected, immutable: true };
      return response;
    };
    readChecked = async (response, check) => {
      const body = bodyOf(response);
      const bytes = body === null ? new Uint8Array(0) : await readBytes(body);
      await check(bytes);
      if (body !== null) response.#body = new Body(bytes);
      return response;
    };
    takeResponseBody = (response) => {
      const body = response.#body;
      if (body === null) return null;
      if (typeof body !== "string") return body.take();
      const used = new Body(body);
      used.used = true;
      response.#body = used;
      return body;
    };
    responseHeaderList = (response) => response.#list;
    bodyOf = (response) => {
      const body = response.#body;
      return typeof body === "string" ? (response.#body = new Body(body)) : body;
    };
  }

  constructor(body: unknown = null, init: unknown = undefined) {
    if (init !== undefined && init !== null) this.#initialize(init);
    if (typeof body === "string") {
      this.#body = body.toWellFormed();
      if (this.#list === NO_HEADERS) this.#list = TEXT_HEADERS;
      else this.#addType("text/plain;charset=UTF-8");
    } else if (body !== null && body !== undefined) {
      const extracted = extractBody(body);
      this.#body = extracted.body;
      if (extracted.type !== null) this.#addType(extracted.type);
    }
    if (this.#body !== null && isNullBodyStatus(this.#status)) {
      throw new TypeError(`A response with status ${this.#status} has no body`);
    }
  }

  static error(): Response {
    const response = new Response();
    response.#status = 0;
    response.#origin = ERROR_ORIGIN;
    return response;
  }

  static redirect(url: unknown, status: unknown = 302): Response {
    if (arguments.length === 0) throw new TypeError("Response.redirect needs a URL");
    const text = usvString(url);
    const parsed = parseUrlHere(text);
    if (parsed === null) throw new TypeError(`Invalid URL: ${JSON.stringify(text)}`);
    const code = toUnsignedShort(status);
    if (code !== 301 && code !== 302 && code !== 303 && code !== 307 && code !== 308) {
      throw new RangeError(`${code} is no redirect status`);
    }
    const response = new Response();
    response.#status = code;
    response.#list = ["location", parsed[0]];
    response.#origin = REDIRECT_ORIGIN;
    return response;
  }

  static json(data: unknown, init: unknown = undefined): Response {
    if (arguments.length === 0) throw new TypeError("Response.json needs a value");
    const text = JSON.stringify(data) as string | undefined;
    if (text === undefined) throw new TypeError("This value has no JSON text");
    const response = new Response(null, init);
    if (isNullBodyStatus(response.#status)) {
      throw new TypeError(`A response with status ${response.#status} has no body`);
    }
    response.#body = text;
    if (response.#list === NO_HEADERS) response.#list = JSON_HEADERS;
    else response.#addType("application/json");
    return response;
  }

  get type(): string {
    return this.#origin.type;
  }

  get url(): string {
    const url = this.#origin.url;
    const hash = url.indexOf("#");
    return hash < 0 ? url : url.slice(0, hash);
  }

  get redirected(): boolean {
    return this.#origin.redirected;
  }

  get status(): number {
    return this.#status;
  }

  get ok(): boolean {
    return this.#status >= 200 && this.#status <= 299;
  }

  get statusText(): string {
    return this.#statusText;
  }

  get headers(): Headers {
    if (this.#headers === null) {
      if (this.#list === NO_HEADERS || this.#list === TEXT_HEADERS || this.#list === JSON_HEADERS) {
        this.#list = this.#list.slice();
      }
      this.#headers = wrapHeaders(this.#list, this.#origin.immutable);
    }
    return this.#headers;
  }

  clone(): Response {
    const body = bodyOf(this);
    if (body !== null && body.unusable) throw new TypeError("The body has been used already, or is being read");
    const copy = new Response();
    copy.#status = this.#status;
    copy.#statusText = this.#statusText;
    copy.#list = this.#list.slice();
    copy.#origin = this.#origin;
    copy.#body = body === null ? null : body.tee();
    return copy;
  }

  // https://fetch.spec.whatwg.org/#initialize-a-response
  #initialize(init: unknown): void {
    if (typeof init !== "object" && typeof init !== "function") {
      throw new TypeError("The settings of a Response are given as an object");
    }
    const { headers, status, statusText } = init as { headers: unknown; status: unknown; statusText: unknown };
    const list = headers === undefined ? null : headerListFrom(headers);
    const code = status === undefined ? 200 : toUnsignedShort(status);
    if (code < 200 || code > 599) throw new RangeError(`${code} is no status between 200 and 599`);
    if (statusText !== undefined) {
      const text = `${statusText}`;
      if (/[^\t\x20-\x7e\x80-\xff]/.test(text)) throw new TypeError("Invalid statusText");
      this.#statusText = text;
    }
    this.#status = code;
    if (list !== null && list.length > 0) this.#list = list;
  }

  #addType(type: string): void {
    if (this.#list === NO_HEADERS) this.#list = ["content-type", type];
    else if (findHeader(this.#list, "content-type", 0) < 0) this.#list.push("content-type", type);
  }
}

defineBodyMixin(Response.prototype, {
  bodyOf: (owner) => bodyOf(owner as Response),
  contentTypeOf: (owner) => headerOf(responseHeaderList(owner as Response), "content-type"),
});
finishInterface(Response);

export function isNullBodyStatus(status: number): boolean {
  return status === 101 || status === 103 || status === 204 || status === 205 || status === 304;
}

function toUnsignedShort(value: unknown): number {
  return (Math.trunc(Number(value)) || 0) & 0xffff;
}
