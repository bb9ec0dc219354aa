// URLPatternInit: what a pattern or an input is given as, completed by a base URL and brought
// into canonical form.
// https://urlpattern.spec.whatwg.org/#urlpatterninit-processing

import * as encoding from "./pattern-encoding.js";
import { URL } from "./url.js";
import { usvString } from "../webidl.js";

export const COMPONENTS = ["protocol", "username", "password", "hostname", "port", "pathname", "search", "hash"] as const;
export type Component = (typeof COMPONENTS)[number];
export type Init = Partial<Record<Component | "baseURL", string>>;

/** The dictionary, converted in the order of its members' names. */
export function readInit(value: unknown): Init {
  if (value === undefined || value === null) return {};
  if (typeof value !== "object" && typeof value !== "function") throw new TypeError("A URLPatternInit is an object");
  const init: Init = {};
  for (const name of ["baseURL", "hash", "hostname", "password", "pathname", "port", "protocol", "search", "username"] as const) {
    const member = (value as Record<string, unknown>)[name];
    if (member !== undefined) init[name] = usvString(member);
  }
  return init;
}

function escapePattern(text: string): string {
  return text.replace(/[+*?:{}()\\]/g, "\\$&");
}

/** An absolute path, or one of a pattern that may begin with an escaped or grouped slash. */
function isAbsolutePath(path: string, isPattern: boolean): boolean {
  if (path.startsWith("/")) return true;
  return isPattern && (path.startsWith("\\/") || path.startsWith("{/"));
}

/** Inherits from the base URL what stands before the components that are given. */
// https://urlpattern.spec.whatwg.org/#process-a-urlpatterninit
export function processInit(init: Init, isPattern: boolean, result: Init): Init {
  let base: URL | null = null;
  if (init.baseURL !== undefined) {
    base = URL.parse(init.baseURL);
    if (base === null) throw new TypeError(`Invalid base URL: ${JSON.stringify(init.baseURL)}`);
    inherit(init, base, isPattern, result);
  }
  if (init.protocol !== undefined) {
    const protocol = init.protocol.endsWith(":") ? init.protocol.slice(0, -1) : init.protocol;
    result.protocol = isPattern ? protocol : encoding.canonicalizeProtocol(protocol);
  }
  if (init.username !== undefined) {
    result.username = isPattern ? init.username : encoding.canonicalizeUsername(init.username);
  }
  if (init.password !== undefined) {
    result.password = isPattern ? init.password : encoding.canonicalizePassword(init.password);
  }
  if (init.hostname !== undefined) {
    result.hostname = isPattern ? init.hostname : encoding.canonicalizeHostname(init.hostname, result.protocol);
  }
  const protocol = result.protocol ?? "";
  if (init.port !== undefined) {
    result.port = isPattern ? init.port : encoding.canonicalizePort(init.port, protocol);
  }
  if (init.pathname !== undefined) {
    let path = init.pathname;
    if (base !== null && hasHierarchicalPath(base) && !isAbsolutePath(path, isPattern)) {
      const slash = base.pathname.lastIndexOf("/");
      const folder = base.pathname.slice(0, slash + 1);
      path = (isPattern ? escapePattern(folder) : folder) + path;
    }
    result.pathname = isPattern ? path : canonicalizePath(path, protocol);
  }
  if (init.search !== undefined) {
    const search = init.search.startsWith("?") ? init.search.slice(1) : init.search;
    result.search = isPattern ? search : encoding.canonicalizeSearch(search);
  }
  if (init.hash !== undefined) {
    const hash = init.hash.startsWith("#") ? init.hash.slice(1) : init.hash;
    result.hash = isPattern ? hash : encoding.canonicalizeHash(hash);
  }
  return result;
}

function inherit(init: Init, base: URL, isPattern: boolean, result: Init): void {
  const text = (value: string): string => (isPattern ? escapePattern(value) : value);
  // Each component is inherited only when none before it in this order is given.
  if (init.protocol !== undefined) return;
  result.protocol = text(base.protocol.slice(0, -1));
  if (!isPattern && init.hostname === undefined && init.port === undefined && init.username === undefined) {
    result.username = base.username;
    if (init.password === undefined) result.password = base.password;
  }
  if (init.hostname !== undefined) return;
  result.hostname = text(base.hostname);
  if (init.port !== undefined) return;
  result.port = base.port;
  if (init.pathname !== undefined) return;
  result.pathname = text(base.pathname);
  if (init.search !== undefined) return;
  result.search = text(base.search.slice(1));
  if (init.hash !== undefined) return;
  result.hash = text(base.hash.slice(1));
}

function hasHierarchicalPath(base: URL): boolean {
  return base.pathname.startsWith("/");
}

function canonicalizePath(path: string, protocol: string): string {
  if (protocol === "" || encoding.isSpecialScheme(protocol)) return encoding.canonicalizePathname(path);
  return path.startsWith("/") ? encoding.canonicalizePathname(path) : encoding.canonicalizeOpaquePathname(path);
}
