// URL. The host parses (it has the whole standard); this class cuts the pieces out of the
// serialisation that came back. The URL of a request never crosses again: the host sent it
// parsed and serialised, and its pieces are found by a few searches.
// https://url.spec.whatwg.org/#url-class

import { host } from "../host.js";
import { finishInterface } from "../interface.js";
import { URL_PARSE, URL_SET } from "../ops.js";
import { usvString } from "../webidl.js";
import { makeLinkedParams, onQueryChange, resetParams, type URLSearchParams } from "./search-params.js";

/** [href, protocolEnd, usernameEnd, hostStart, hostEnd, port, pathStart, searchStart, hashStart] */
export type ParsedUrl = [string, number, number, number, number, number, number, number, number];

const PROTOCOL_END = 1;
const USERNAME_END = 2;
const HOST_START = 3;
const HOST_END = 4;
const PORT = 5;
const PATH_START = 6;
const SEARCH_START = 7;
const HASH_START = 8;

/** The pieces of a URL, or null. */
export function parseUrl(text: string, base: string | null): ParsedUrl | null {
  return host.call(URL_PARSE, text, base) as ParsedUrl | null;
}

/** As parseUrl, against the location of the global scope when a program defines one. */
export function parseUrlHere(text: string): ParsedUrl | null {
  const parsed = parseUrl(text, null);
  if (parsed !== null) return parsed;
  const { location } = globalThis as { location?: { href?: unknown } };
  return typeof location?.href === "string" ? parseUrl(text, location.href) : null;
}

/** The URL of the request that is running: known to be serialised already. */
let currentRequestUrl = (): string | null => null;

export function setCurrentRequestUrl(ask: () => string | null): void {
  currentRequestUrl = ask;
}

export let isUrl: (value: object) => value is URL;
export let hrefOf: (url: URL) => string;

export class URL {
  #href: string;
  /** Null until a piece is asked for of a URL that the host had serialised. */
  #parsed: ParsedUrl | null;
  #params: URLSearchParams | null = null;

  static {
    isUrl = (value): value is URL => #href in value;
    hrefOf = (url) => url.#href;
    onQueryChange((url, query) => (url as URL).#setQuery(query));
  }

  constructor(url: unknown, base: unknown = undefined) {
    if (base === undefined && typeof url === "string" && url === currentRequestUrl()) {
      this.#href = url;
      this.#parsed = null;
      return;
    }
    if (arguments.length === 0) throw new TypeError("URL needs an argument");
    const text = usvString(url);
    const parsed = parseUrl(text, base === undefined ? null : usvString(base));
    if (parsed === null) throw new TypeError(`Invalid URL: ${JSON.stringify(text)}`);
    this.#href = parsed[0];
    this.#parsed = parsed;
  }

  static parse(url: unknown, base: unknown = undefined): URL | null {
    if (arguments.length === 0) throw new TypeError("URL.parse needs an argument");
    try {
      return new URL(usvString(url), base === undefined ? undefined : usvString(base));
    } catch {
      return null;
    }
  }

  static canParse(url: unknown, base: unknown = undefined): boolean {
    if (arguments.length === 0) throw new TypeError("URL.canParse needs an argument");
    return parseUrl(usvString(url), base === undefined ? null : usvString(base)) !== null;
  }

  get href(): string {
    return this.#href;
  }

  set href(value: unknown) {
    const text = usvString(value);
    const parsed = parseUrl(text, null);
    if (parsed === null) throw new TypeError(`Invalid URL: ${JSON.stringify(text)}`);
    this.#replace(parsed);
  }

  get origin(): string {
    const parsed = this.#pieces();
    switch (this.#href.slice(0, parsed[PROTOCOL_END])) {
      case "http:":
      case "https:":
      case "ws:":
      case "wss:":
      case "ftp:":
        return this.#href.slice(0, parsed[PROTOCOL_END]) + "//" + this.host;
      case "blob:": {
        const inner = parseUrl(this.pathname, null);
        if (inner === null || !/^https?:/.test(inner[0])) return "null";
        return new URL(inner[0]).origin;
      }
      default:
        return "null";
    }
  }

  get protocol(): string {
    return this.#href.slice(0, this.#pieces()[PROTOCOL_END]);
  }

  set protocol(value: unknown) {
    this.#set("protocol", value);
  }

  get username(): string {
    const parsed = this.#pieces();
    if (parsed[HOST_START] === parsed[PROTOCOL_END]) return "";
    return this.#href.slice(parsed[PROTOCOL_END] + 2, parsed[USERNAME_END]);
  }

  set username(value: unknown) {
    this.#set("username", value);
  }

  get password(): string {
    const parsed = this.#pieces();
    // Between them stand the colon and the at sign, when there is a password.
    if (parsed[HOST_START] - parsed[USERNAME_END] < 2) return "";
    return this.#href.slice(parsed[USERNAME_END] + 1, parsed[HOST_START] - 1);
  }

  set password(value: unknown) {
    this.#set("password", value);
  }

  get host(): string {
    const parsed = this.#pieces();
    if (parsed[HOST_START] === parsed[PROTOCOL_END]) return "";
    return this.#href.slice(parsed[HOST_START], parsed[PATH_START]);
  }

  set host(value: unknown) {
    this.#set("host", value);
  }

  get hostname(): string {
    const parsed = this.#pieces();
    return this.#href.slice(parsed[HOST_START], parsed[HOST_END]);
  }

  set hostname(value: unknown) {
    this.#set("hostname", value);
  }

  get port(): string {
    const port = this.#pieces()[PORT];
    return port < 0 ? "" : `${port}`;
  }

  set port(value: unknown) {
    this.#set("port", value);
  }

  get pathname(): string {
    const parsed = this.#pieces();
    if (parsed[SEARCH_START] >= 0) return this.#href.slice(parsed[PATH_START], parsed[SEARCH_START]);
    if (parsed[HASH_START] >= 0) return this.#href.slice(parsed[PATH_START], parsed[HASH_START]);
    return this.#href.slice(parsed[PATH_START]);
  }

  set pathname(value: unknown) {
    this.#set("pathname", value);
  }

  get search(): string {
    const parsed = this.#pieces();
    const start = parsed[SEARCH_START];
    if (start < 0) return "";
    const end = parsed[HASH_START] < 0 ? this.#href.length : parsed[HASH_START];
    return end - start < 2 ? "" : this.#href.slice(start, end);
  }

  set search(value: unknown) {
    this.#set("search", value);
    if (this.#params !== null) resetParams(this.#params, this.search.slice(1));
  }

  get searchParams(): URLSearchParams {
    if (this.#params === null) {
      this.#params = makeLinkedParams(this.search.slice(1), this);
    }
    return this.#params;
  }

  get hash(): string {
    const start = this.#pieces()[HASH_START];
    return start < 0 || start + 1 === this.#href.length ? "" : this.#href.slice(start);
  }

  set hash(value: unknown) {
    this.#set("hash", value);
  }

  toString(): string {
    return this.#href;
  }

  toJSON(): string {
    return this.#href;
  }

  #pieces(): ParsedUrl {
    return (this.#parsed ??= piecesOfPlainUrl(this.#href));
  }

  #set(property: string, value: unknown): void {
    const parsed = host.call(URL_SET, this.#href, property, usvString(value)) as ParsedUrl;
    this.#href = parsed[0];
    this.#parsed = parsed;
  }

  #replace(parsed: ParsedUrl): void {
    this.#href = parsed[0];
    this.#parsed = parsed;
    if (this.#params !== null) resetParams(this.#params, this.search.slice(1));
  }

  /** A serialised form needs no escaping, so the query can be exchanged in place. */
  #setQuery(query: string): void {
    const parsed = this.#pieces();
    const hashStart = parsed[HASH_START];
    const pathEnd =
      parsed[SEARCH_START] >= 0 ? parsed[SEARCH_START] : hashStart >= 0 ? hashStart : this.#href.length;
    const search = query === "" ? "" : `?${query}`;
    const hash = hashStart < 0 ? "" : this.#href.slice(hashStart);
    const href = this.#href.slice(0, pathEnd) + search + hash;
    const changed = parsed.slice() as ParsedUrl;
    changed[0] = href;
    changed[SEARCH_START] = search === "" ? -1 : pathEnd;
    changed[HASH_START] = hash === "" ? -1 : pathEnd + search.length;
    this.#href = href;
    this.#parsed = changed;
  }
}

finishInterface(URL);

/**
 * The pieces of an http or https URL that a request carried: serialised, with a host, without
 * credentials and without a fragment.
 */
function piecesOfPlainUrl(href: string): ParsedUrl {
  const protocolEnd = href.indexOf(":") + 1;
  const hostStart = protocolEnd + 2;
  const pathStart = href.indexOf("/", hostStart);
  // Behind the bracket of an IPv6 address, whose own colons do not count.
  const bracket = href.charCodeAt(hostStart) === 0x5b ? href.indexOf("]", hostStart) : hostStart;
  const colon = href.indexOf(":", bracket);
  const hasPort = colon >= 0 && colon < pathStart;
  return [
    href,
    protocolEnd,
    hostStart,
    hostStart,
    hasPort ? colon : pathStart,
    hasPort ? +href.slice(colon + 1, pathStart) : -1,
    pathStart,
    href.indexOf("?", pathStart),
    -1,
  ];
}
