// The canonical form of a URL's components, by which patterns and inputs become comparable. The
// host's URL parser does the work: each component is set on a dummy URL and read back.
// https://urlpattern.spec.whatwg.org/#canon-encoding-callbacks

import { URL } from "./url.js";

function invalid(component: string, value: string): never {
  throw new TypeError(`Invalid ${component}: ${JSON.stringify(value)}`);
}

const SPECIAL_PORTS: Record<string, string> = { http: "80", https: "443", ws: "80", wss: "443", ftp: "21" };

export function isSpecialScheme(protocol: string): boolean {
  return protocol === "file" || protocol in SPECIAL_PORTS;
}

export function canonicalizeProtocol(value: string): string {
  if (value === "") return value;
  const url = URL.parse(`${value}://dummy.invalid/`);
  if (url === null || !/^[a-z][a-z0-9+.-]*$/i.test(value)) invalid("protocol", value);
  return url.protocol.slice(0, -1);
}

export function canonicalizeUsername(value: string): string {
  if (value === "") return value;
  const url = new URL("https://dummy.invalid/");
  url.username = value;
  return url.username;
}

export function canonicalizePassword(value: string): string {
  if (value === "") return value;
  const url = new URL("https://dummy.invalid/");
  url.password = value;
  return url.password;
}

export function canonicalizeHostname(value: string, protocol = ""): string {
  if (value === "") return value;
  const special = protocol === "" || isSpecialScheme(protocol);
  // A host ends where another component begins; the setter would stop there without a word.
  const end = value.search(special ? /[/?#\\]/ : /[/?#]/);
  const host = end < 0 ? value : value.slice(0, end);
  const url = new URL(special ? "https://dummy.invalid/" : "dummy://dummy.invalid/");
  url.hostname = host;
  if (url.hostname === "dummy.invalid" && host.toLowerCase() !== "dummy.invalid") invalid("hostname", value);
  return url.hostname;
}

export function canonicalizeIpv6Hostname(value: string): string {
  if (/[^0-9a-f[\]:]/i.test(value)) invalid("hostname", value);
  return value.toLowerCase();
}

export function canonicalizePort(value: string, protocol = ""): string {
  if (value === "") return value;
  // Digits up to the first other character count, as when a port is set.
  const digits = /^\d+/.exec(value.replace(/[\t\n\r]/g, ""))?.[0];
  if (digits === undefined || Number(digits) > 65_535) invalid("port", value);
  const port = `${Number(digits)}`;
  return SPECIAL_PORTS[protocol] === port ? "" : port;
}

export function canonicalizePathname(value: string): string {
  if (value === "") return value;
  // A path that begins elsewhere must not get a slash of its own.
  const leadingSlash = value.startsWith("/");
  const url = new URL("https://dummy.invalid/");
  url.pathname = leadingSlash ? value : `/-${value}`;
  return leadingSlash ? url.pathname : url.pathname.slice(2);
}

export function canonicalizeOpaquePathname(value: string): string {
  if (value === "") return value;
  return new URL(`data:${value.replaceAll("?", "%3F").replaceAll("#", "%23")}`).pathname;
}

export function canonicalizeSearch(value: string): string {
  if (value === "") return value;
  const url = new URL("https://dummy.invalid/");
  url.search = `?${value}`;
  return url.search.slice(1);
}

export function canonicalizeHash(value: string): string {
  if (value === "") return value;
  const url = new URL("https://dummy.invalid/");
  url.hash = `#${value}`;
  return url.hash.slice(1);
}
