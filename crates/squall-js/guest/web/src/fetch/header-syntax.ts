// What may stand in a header field. Checks run for every header a function sets, so the usual
// names are looked up in a table, and only the others meet a regular expression.
// https://fetch.spec.whatwg.org/#terminology-headers

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

const USUAL_NAMES = [
  ...["Accept", "Accept-Encoding", "Accept-Language", "Accept-Ranges", "Age", "Allow", "Authorization"],
  ...["Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods"],
  ...["Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age"],
  ...["Access-Control-Request-Headers", "Access-Control-Request-Method", "Cache-Control", "Connection"],
  ...["Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Range"],
  ...["Content-Security-Policy", "Content-Type", "Cookie", "Cross-Origin-Embedder-Policy", "Link"],
  ...["Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Date", "ETag", "Etag", "Expires"],
  ...["Host", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since"],
  ...["Last-Modified", "Location", "Origin", "Pragma", "Range", "Referer", "Referrer-Policy"],
  ...["Retry-After", "Server", "Server-Timing", "Set-Cookie", "Strict-Transport-Security", "Trailer"],
  ...["Transfer-Encoding", "Upgrade", "User-Agent", "Vary", "Via", "WWW-Authenticate", "X-Api-Key"],
  ...["X-Content-Type-Options", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"],
  ...["X-Frame-Options", "X-Powered-By", "X-Real-Ip", "X-Request-Id", "X-XSS-Protection"],
];

const normalized = Object.create(null) as Record<string, string | undefined>;
for (const name of USUAL_NAMES) {
  normalized[name] = name.toLowerCase();
  normalized[name.toLowerCase()] = name.toLowerCase();
}

/** Names that were met once are usual. Not more than these: a client may choose them. */
let roomForNames = 200;

/** The name in lower case. */
export function normalizeHeaderName(name: unknown): string {
  if (typeof name === "string") {
    const usual = normalized[name];
    if (usual !== undefined) return usual;
  }
  const text = `${name}`;
  if (!TOKEN.test(text)) throw new TypeError(`Invalid header name: ${JSON.stringify(text)}`);
  const lower = text.toLowerCase();
  if (roomForNames > 0 && text.length < 64) {
    roomForNames--;
    normalized[text] = lower;
  }
  return lower;
}

const UNUSUAL_CHARACTER = /[^\x20-\x7e]/;
const FORBIDDEN_CHARACTER = /[\0\r\n\u0100-\uffff]/;
const SURROUNDING_SPACE = /^[\t\n\r ]+|[\t\n\r ]+$/g;

/** The value without the white space around it. */
export function normalizeHeaderValue(value: unknown): string {
  const text = typeof value === "string" ? value : `${value}`;
  const length = text.length;
  if (length === 0) return text;
  if (
    text.charCodeAt(0) !== 0x20 &&
    text.charCodeAt(length - 1) !== 0x20 &&
    !UNUSUAL_CHARACTER.test(text)
  ) {
    return text;
  }
  const trimmed = text.replace(SURROUNDING_SPACE, "");
  if (FORBIDDEN_CHARACTER.test(trimmed)) {
    throw new TypeError(`Invalid header value: ${JSON.stringify(trimmed)}`);
  }
  return trimmed;
}
