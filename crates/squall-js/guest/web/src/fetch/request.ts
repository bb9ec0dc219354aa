// Request. The one that the host delivers is made without any of the constructor's checks, and
// its headers, body and signal come to life when they are asked for.
// https://fetch.spec.whatwg.org/#request-class

import { AbortController, AbortSignal } from "../abort.js";
import { finishInterface } from "../interface.js";
import { hrefOf, isUrl, type ParsedUrl, parseUrlHere } from "../url/url.js";
import { usvString } from "../webidl.js";
import { holdBlob } from "./blob-url.js";
import { Body, defineBodyMixin, extractBody } from "./body.js";
import { findHeader, headerListFrom, headerOf, type Headers, wrapHeaders } from "./headers.js";

/** The rarer attributes; most requests share one of the two constants below. */
interface Settings {
  readonly cache: string;
  readonly credentials: string;
  readonly integrity: string;
  readonly keepalive: boolean;
  readonly mode: string;
  readonly redirect: string;
  readonly referrer: string;
  readonly referrerPolicy: string;
  readonly immutableHeaders: boolean;
}

const OUTGOING: Settings = {
  cache: "default",
  credentials: "same-origin",
  integrity: "",
  keepalive: false,
  mode: "cors",
  redirect: "follow",
  referrer: "about:client",
  referrerPolicy: "",
  immutableHeaders: false,
};
/** A request that goes on to another server shows its caller the redirects, as a proxy does. */
const INCOMING: Settings = { ...OUTGOING, redirect: "manual", immutableHeaders: true };

/** Whoever has the signal of an incoming request. */
export interface SignalOwner {
  readonly signal: AbortSignal;
}

/** A request as it is sent. */
export interface RequestParts {
  method: string;
  url: string;
  headers: string[];
  body: Body | null;
  redirect: string;
  integrity: string;
  signal: AbortSignal | null;
}

/** The request of an event, from what the host delivered. */
export let makeIncomingRequest: (
  method: string,
  url: string,
  headers: string[],
  body: Body | null,
  signalOwner: SignalOwner,
) => Request;
export let isRequest: (value: unknown) => value is Request;
export let requestParts: (request: Request) => RequestParts;
/** Asks the constructor for an instance that its caller fills. */
const BARE = Symbol("bare");
let bodyOf: (request: Request) => Body | null;
let listOf: (request: Request) => string[];

export class Request {
  #method: string;
  #url: string;
  #list: string[];
  #headers: Headers | null = null;
  #body: Body | null;
  #signal: AbortSignal | null = null;
  /** Whose signal this request's follows. */
  #signalOwner: SignalOwner | null;
  #settings: Settings;

  static {
    makeIncomingRequest = (method, url, headers, body, signalOwner) => {
      const request = new Request(BARE);
      request.#method = method;
      request.#url = url;
      request.#list = headers;
      request.#body = body;
      request.#signalOwner = signalOwner;
      return request;
    };
    isRequest = (value): value is Request => typeof value === "object" && value !== null && #method in value;
    requestParts = (request) => ({
      method: request.#method,
      url: request.#url,
      headers: request.#list,
      body: request.#body,
      redirect: request.#settings.redirect,
      integrity: request.#settings.integrity,
      signal: request.#signal ?? request.#signalOwner?.signal ?? null,
    });
    bodyOf = (request) => request.#body;
    listOf = (request) => request.#list;
  }

  constructor(input: unknown, init: unknown = undefined) {
    if (input === BARE) {
      this.#method = this.#url = "";
      this.#list = [];
      this.#body = this.#signalOwner = null;
      this.#settings = INCOMING;
      return;
    }
    if (arguments.length === 0) throw new TypeError("Request needs a URL or a Request");
    const source = isRequest(input) ? input : null;
    const options = readInit(init);
    this.#url = source === null ? checkedUrl(input) : source.#url;
    if (this.#url.startsWith("blob:")) holdBlob(this, this.#url, source);
    this.#method = source === null ? "GET" : source.#method;
    if (options === null) {
      this.#list = source === null ? [] : source.#list.slice();
      this.#signalOwner = source;
      this.#settings = source === null ? OUTGOING : { ...source.#settings, immutableHeaders: false };
      this.#body = source === null ? null : moveBody(source.#body);
      return;
    }
    this.#settings = mergeSettings(source === null ? OUTGOING : source.#settings, options);
    if (options.method !== undefined) this.#method = normalizeMethod(options.method);
    if (this.#settings.mode === "no-cors" && !/^(?:GET|HEAD|POST)$/.test(this.#method)) {
      throw new TypeError(`A request of the mode no-cors can not have the method ${this.#method}`);
    }
    this.#signalOwner = options.signal === undefined ? source : options.signal === null ? null : ownerOf(options.signal);
    if (options.headers !== undefined) this.#list = headerListFrom(options.headers);
    else this.#list = source === null ? [] : source.#list.slice();

    const hasBody = options.body !== undefined && options.body !== null;
    const inherits = !hasBody && source !== null && source.#body !== null;
    if ((hasBody || inherits) && (this.#method === "GET" || this.#method === "HEAD")) {
      throw new TypeError(`A ${this.#method} request has no body`);
    }
    if (hasBody) {
      const { body, type } = extractBody(options.body);
      if (this.#settings.keepalive && body.stream !== null) {
        throw new TypeError("A request with keepalive can not stream its body");
      }
      this.#body = body;
      if (type !== null && findHeader(this.#list, "content-type", 0) < 0) this.#list.push("content-type", type);
    } else {
      this.#body = source === null ? null : moveBody(source.#body);
    }
  }

  get method(): string {
    return this.#method;
  }

  get url(): string {
    return this.#url;
  }

  get headers(): Headers {
    return (this.#headers ??= wrapHeaders(this.#list, this.#settings.immutableHeaders));
  }

  get destination(): string {
    return this.#method && "";
  }

  get referrer(): string {
    return this.#settings.referrer;
  }

  get referrerPolicy(): string {
    return this.#settings.referrerPolicy;
  }

  get mode(): string {
    return this.#settings.mode;
  }

  get credentials(): string {
    return this.#settings.credentials;
  }

  get cache(): string {
    return this.#settings.cache;
  }

  get redirect(): string {
    return this.#settings.redirect;
  }

  get integrity(): string {
    return this.#settings.integrity;
  }

  get keepalive(): boolean {
    return this.#settings.keepalive;
  }

  get isReloadNavigation(): boolean {
    return this.#settings === null;
  }

  get isHistoryNavigation(): boolean {
    return this.#settings === null;
  }

  get signal(): AbortSignal {
    if (this.#signal === null) {
      const followed = this.#signalOwner;
      if (followed === null) this.#signal = new AbortController().signal;
      else if (this.#settings === INCOMING) this.#signal = followed.signal;
      else this.#signal = AbortSignal.any([followed.signal]);
    }
    return this.#signal;
  }

  get duplex(): string {
    return this.#settings && "half";
  }

  clone(): Request {
    const body = this.#body;
    if (body !== null && body.unusable) throw new TypeError("The body has been used already, or is being read");
    const copy = new Request(BARE);
    copy.#method = this.#method;
    copy.#url = this.#url;
    if (this.#url.startsWith("blob:")) holdBlob(copy, this.#url, this);
    copy.#list = this.#list.slice();
    copy.#body = body === null ? null : body.tee();
    copy.#signalOwner = this.#signalOwner ?? this;
    copy.#settings = this.#settings === INCOMING ? { ...INCOMING } : this.#settings;
    return copy;
  }
}

defineBodyMixin(Request.prototype, {
  bodyOf: (owner) => bodyOf(owner as Request),
  contentTypeOf: (owner) => headerOf(listOf(owner as Request), "content-type"),
});
finishInterface(Request);

function moveBody(body: Body | null): Body | null {
  if (body === null) return null;
  if (body.unusable) throw new TypeError("The body of that request has been used already");
  return body.move();
}

function ownerOf(signal: unknown): SignalOwner {
  if (!(signal instanceof AbortSignal)) throw new TypeError("signal is no AbortSignal");
  return { signal };
}

function checkedUrl(input: unknown): string {
  const text = typeof input === "object" && input !== null && isUrl(input) ? hrefOf(input) : usvString(input);
  const parsed = parseUrlHere(text);
  if (parsed === null) {
    throw new TypeError(`Invalid URL: ${JSON.stringify(text)} (relative ones have nothing to be relative to here)`);
  }
  if (hasCredentials(parsed)) throw new TypeError("A request's URL carries no user name and password");
  return parsed[0];
}

function hasCredentials(parsed: ParsedUrl): boolean {
  return parsed[3] - parsed[1] > 2;
}

const STANDARD_METHOD = /^(?:delete|get|head|options|post|put)$/i;

function normalizeMethod(method: string): string {
  if (method === "GET" || method === "POST") return method;
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(method)) throw new TypeError(`Invalid method: ${JSON.stringify(method)}`);
  if (/^(?:connect|trace|track)$/i.test(method)) throw new TypeError(`The method ${method} is not allowed`);
  return STANDARD_METHOD.test(method) ? method.toUpperCase() : method;
}

const CACHES = ["default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"];
const CREDENTIALS = ["omit", "same-origin", "include"];
const MODES = ["navigate", "same-origin", "no-cors", "cors"];
const PRIORITIES = ["high", "low", "auto"];
const REDIRECTS = ["follow", "error", "manual"];
const REFERRER_POLICIES = [
  ...["", "no-referrer", "no-referrer-when-downgrade", "same-origin", "origin", "strict-origin"],
  ...["origin-when-cross-origin", "strict-origin-when-cross-origin", "unsafe-url"],
];

interface RequestInit {
  body: unknown;
  cache: string | undefined;
  credentials: string | undefined;
  headers: unknown;
  integrity: string | undefined;
  keepalive: boolean | undefined;
  method: string | undefined;
  mode: string | undefined;
  redirect: string | undefined;
  referrer: string | undefined;
  referrerPolicy: string | undefined;
  signal: unknown;
}

/** The dictionary's members, converted in the order that Web IDL gives them. */
function readInit(init: unknown): RequestInit | null {
  if (init === undefined || init === null) return null;
  if (typeof init !== "object" && typeof init !== "function") {
    throw new TypeError("The settings of a Request are given as an object");
  }
  const given = init as Record<string, unknown>;
  const body = given["body"];
  const cache = oneOf(given, "cache", CACHES);
  const credentials = oneOf(given, "credentials", CREDENTIALS);
  // The only value there is; streams are accepted without it, as programs for Workers expect.
  oneOf(given, "duplex", ["half"]);
  const headers = given["headers"];
  const integrity = stringOf(given, "integrity");
  const keepalive = given["keepalive"];
  const method = stringOf(given, "method");
  const mode = oneOf(given, "mode", MODES);
  oneOf(given, "priority", PRIORITIES);
  const redirect = oneOf(given, "redirect", REDIRECTS);
  const referrer = stringOf(given, "referrer");
  const referrerPolicy = oneOf(given, "referrerPolicy", REFERRER_POLICIES);
  const signal = given["signal"];
  if (given["window"] !== undefined && given["window"] !== null) throw new TypeError("window can only be null");
  return {
    ...{ body, cache, credentials, headers, integrity, method, mode, redirect, referrer, referrerPolicy, signal },
    keepalive: keepalive === undefined ? undefined : Boolean(keepalive),
  };
}

function stringOf(init: Record<string, unknown>, name: string): string | undefined {
  const value = init[name];
  return value === undefined ? undefined : `${value}`;
}

function oneOf(init: Record<string, unknown>, name: string, values: readonly string[]): string | undefined {
  const value = stringOf(init, name);
  if (value !== undefined && !values.includes(value)) {
    throw new TypeError(`${JSON.stringify(value)} is no value for ${name}`);
  }
  return value;
}

function mergeSettings(base: Settings, init: RequestInit): Settings {
  const merged: Settings = {
    cache: init.cache ?? base.cache,
    credentials: init.credentials ?? base.credentials,
    integrity: init.integrity ?? base.integrity,
    keepalive: init.keepalive ?? base.keepalive,
    mode: init.mode ?? base.mode,
    redirect: init.redirect ?? base.redirect,
    referrer: init.referrer === undefined ? base.referrer : normalizeReferrer(init.referrer),
    referrerPolicy: init.referrerPolicy ?? base.referrerPolicy,
    immutableHeaders: false,
  };
  if (merged.mode === "navigate") throw new TypeError("mode can not be navigate");
  if (merged.cache === "only-if-cached" && merged.mode !== "same-origin") {
    throw new TypeError("only-if-cached needs the mode same-origin");
  }
  return merged;
}

function normalizeReferrer(referrer: string): string {
  if (referrer === "") return "";
  const parsed = parseUrlHere(referrer);
  if (parsed === null) throw new TypeError(`Invalid referrer: ${JSON.stringify(referrer)}`);
  if (parsed[0] === "about:client") return parsed[0];
  const { location } = globalThis as { location?: { origin?: string } };
  const origin = location?.origin;
  // A page of another origin can not be named; a program without an origin has only itself.
  return origin !== undefined && parsed[0].startsWith(`${origin}/`) ? parsed[0] : "about:client";
}
