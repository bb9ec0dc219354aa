// The host's operations. Each line: arguments -> result. `sync` is asked by `call`, `async`
// by `start`. Numbers are part of the recording format: they are never used again for
// something else. The host's side of this table is crates/squall-js/src/ops.rs.
//
// A refusal is the array [name, message]: name is a DOMException's name, or TypeError,
// RangeError, Error.

// Time and chance
/** sync () -> milliseconds since 1970, a float; stands still within a turn */
export const WALL_CLOCK = 1;
/** sync () -> milliseconds since the instance began, a float */
export const MONOTONIC_CLOCK = 2;
/** sync (length) -> bytes */
export const RANDOM_BYTES = 3;
/** async (milliseconds) -> null */
export const SLEEP = 4;

// Requests
/** sync (request, status, statusText, [name, value, ...], body) -> null; body: null, bytes
 *  (the whole of it), a string, or true when RESPONSE_WRITE follows */
export const RESPOND = 10;
/** async (request, bytes) -> null when there is room for more; refused when the client left */
export const RESPONSE_WRITE = 11;
/** sync (request, failed) -> null; failed: null or the message that breaks the body off */
export const RESPONSE_END = 12;
/** sync (request, name, message, stack, passThrough) -> null; instead of RESPOND, or after it */
export const FAIL = 13;
/** sync (request, operationsLeft) -> null; nothing more happens for this request */
export const END = 14;
/** async (handle, largest) -> bytes, or null at the end */
export const BODY_READ = 15;
/** sync (handle) -> null; nobody reads on */
export const BODY_CANCEL = 16;
/** sync () -> [[kind, name, value], ...]; kind "text", "json", "assets", "service" */
export const ENV = 17;
/** sync (level, text) -> null; level "debug", "info", "warn", "error" */
export const LOG = 18;
/** sync (request) -> null; the program has this request's signal: that its client goes is something
 *  that it may wait for */
export const HEED_CLIENT = 19;

// Fetch
/** async (method, url, [name, value, ...], body, redirect, binding) ->
 *  [status, statusText, [name, value, ...], handle or null, url, redirected]; body as for RESPOND;
 *  with true, FETCH_WRITE follows with the number of this operation; binding: null or a name in env */
export const FETCH = 30;
/** async (operation, bytes) -> null when there is room for more */
export const FETCH_WRITE = 31;
/** sync (operation, failed) -> null */
export const FETCH_END = 32;

// Caches. cache is the name of one, or null for the default. Each counts as an outbound request.
/** async (cache, url, [name, value, ...]) -> as FETCH, with an empty url, or null when nothing
 *  that is fresh is there */
export const CACHE_FIND = 33;
/** async (cache, url, [name, value, ...] of the request, status, [name, value, ...], body) -> whether
 *  it was stored; body as for RESPOND; with true, FETCH_WRITE and FETCH_END follow */
export const CACHE_PUT = 34;
/** async (cache, url, [name, value, ...]) -> whether there was something to remove */
export const CACHE_DELETE = 35;

// Text. An encoding is the lower-case name that the Encoding standard gives it; "replacement" does
// not come, and UTF-8 only where bytes are converted in one piece.
/** sync (encoding, fatal, keepBom, bytes) -> string, or null for malformed input when fatal */
export const DECODE = 40;
/** sync (encoding, fatal, keepBom) -> handle of a decoder; the host frees it when the request
 *  that runs in this turn ends, if it was not used to its end by then */
export const DECODER_NEW = 41;
/** sync (handle, bytes, last) -> string, or null for malformed input when fatal; the handle is
 *  gone after the last piece and after null. A handle that is gone is refused with TypeError */
export const DECODER_WRITE = 42;
/** sync (bytes, urlSafe) -> base64 with padding; with urlSafe base64url without it */
export const BASE64_ENCODE = 43;
/** sync (text, lenient) -> bytes; forgiving-base64 decode of the Infra standard, null when it
 *  fails. With lenient, as node's Buffer: both alphabets at once, other characters are skipped,
 *  the first "=" ends the text and bits that fill no byte are dropped */
export const BASE64_DECODE = 44;

// Compression
/** sync ("brotli", "deflate", "deflate-raw" or "gzip", compress or not) -> handle of a stream's state; the
 *  host frees it when the request that runs in this turn ends */
export const COMPRESSION_NEW = 50;
/** either (handle, bytes, last) -> bytes, or [bytes] when the input goes on behind the end of the
 *  compressed data; started when the input is longer than 16 KiB. The handle is gone after the last
 *  piece, after [bytes] and after a refusal (TypeError: malformed or cut short) */
export const COMPRESSION_WRITE = 51;

// 100 to 199: URL, bodies, fetch, crypto

/** sync (request, status, statusText, [name, value, ...], body, operationsLeft) -> null; RESPOND
 *  and END in one: body is null, a string, bytes or [handle], and nothing follows */
export const RESPOND_AND_END = 100;

// URL. A parsed URL crosses as [href, protocolEnd, usernameEnd, hostStart, hostEnd, port,
// pathStart, searchStart, hashStart]: href is ASCII, the others are offsets into it, as the
// positions of Rust's `url::Position` name them:
//   protocolEnd  behind the colon of the scheme      usernameEnd  AfterUsername
//   hostStart    BeforeHost (protocolEnd + 0 without an authority)   hostEnd  AfterHost
//   port         the number, or -1                    pathStart    BeforePath
//   searchStart  of the "?", or -1                    hashStart    of the "#", or -1
/** sync (text, base or null) -> a parsed URL, or null when it does not parse */
export const URL_PARSE = 110;
/** sync (href, property, text) -> a parsed URL after that setter of URL; property is the
 *  setter's name ("href" excluded) */
export const URL_SET = 111;

// Bodies. Wherever RESPOND and FETCH take a body they also take [handle]: the host forwards
// that body itself, and the handle is gone.
/** async (handle, asText) -> what is left of the body in one piece: bytes, or with asText a
 *  string, decoded as UTF-8 decode of the Encoding standard does (without a BOM) */
export const BODY_READ_ALL = 101;
/** sync (handle, asText) -> as BODY_READ_ALL where all of it is here and the handle is gone then;
 *  null where there is something to wait for, or nothing of that handle */
export const BODY_TAKE = 102;

// Crypto. Hashes are "SHA-1", "SHA-256", "SHA-384", "SHA-512"; curves "P-256", "P-384". Key
// material: secrets raw; RSA as PKCS#1 DER (RSAPublicKey, RSAPrivateKey); EC private keys as the
// scalar and public ones as the uncompressed point; Ed25519 as the seed and the 32 public bytes.
// Operations marked `either` are called when their bytes are few and started when they are many
// (more than 64 KiB in all): the same arguments and result both ways. A key or a ciphertext that does
// not fit is refused with the DOMException name that is given.
/** either (hash, data) -> bytes */
export const DIGEST = 120;
/** either (hash, key, data) -> bytes */
export const HMAC_SIGN = 121;
/** either (hash, key, signature, data) -> boolean, compared in constant time */
export const HMAC_VERIFY = 122;
/** either (key, iv, data) -> bytes with PKCS#7 padding */
export const AES_CBC_ENCRYPT = 123;
/** either (key, iv, data) -> bytes without the padding; OperationError */
export const AES_CBC_DECRYPT = 124;
/** either (key, iv of any length, data, additionalData, tagBytes 4, 8, 12 to 16) -> bytes and tag */
export const AES_GCM_ENCRYPT = 125;
/** either (key, iv, data and tag, additionalData, tagBytes) -> bytes; OperationError */
export const AES_GCM_DECRYPT = 126;
/** sync (hash, key, salt, info, length in bytes) -> bytes; OperationError when it is too long */
export const HKDF = 127;
/** async (hash, password, salt, iterations, length in bytes) -> bytes */
export const PBKDF2 = 128;
/** async (modulus in bits, public exponent as big-endian bytes) -> [public, private] */
export const RSA_GENERATE = 130;
/** async, but called at load (isPrivate, key) -> null; DataError when the key is no sound RSA key */
export const RSA_CHECK = 131;
/** async ("pkcs1" or "pss", hash, private key, salt length, data) -> signature; OperationError */
export const RSA_SIGN = 132;
/** async ("pkcs1" or "pss", hash, public key, salt length, signature, data) -> boolean */
export const RSA_VERIFY = 133;
/** async (curve) -> [point, scalar] */
export const EC_GENERATE = 140;
/** sync (curve, scalar) -> point; DataError when the scalar is 0 or not below the order */
export const EC_PUBLIC = 141;
/** sync (curve, point, compressed or not) -> uncompressed point; DataError off the curve */
export const EC_POINT = 142;
/** async (curve, hash, scalar, data) -> r and s, each as long as the order */
export const ECDSA_SIGN = 143;
/** async (curve, hash, point, signature, data) -> boolean */
export const ECDSA_VERIFY = 144;
/** sync () -> [public, seed] */
export const ED25519_GENERATE = 145;
/** sync (seed) -> public */
export const ED25519_PUBLIC = 146;
/** either (seed, data) -> signature */
export const ED25519_SIGN = 147;
/** either (public, signature, data) -> boolean; points of small order and values that are not
 *  canonical are refused as invalid (false) */
export const ED25519_VERIFY = 148;
