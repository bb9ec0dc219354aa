// The globals of URL, fetch, caches, crypto and the handlers.

import { Blob } from "./blob.js";
import { Cache, caches, CacheStorage } from "./cache/cache.js";
import { Crypto, crypto } from "./crypto/crypto.js";
import { CryptoKey } from "./crypto/key.js";
import { SubtleCrypto } from "./crypto/subtle.js";
import { env } from "./env.js";
import { createObjectURL, revokeObjectURL } from "./fetch/blob-url.js";
import { fetch } from "./fetch/fetch.js";
import { Headers } from "./fetch/headers.js";
import { Request } from "./fetch/request.js";
import { Response } from "./fetch/response.js";
import { File } from "./file.js";
import { FileReader } from "./file-reader.js";
import { FormData } from "./form-data.js";
import { eventInterfaces, WorkerEntrypoint } from "./handlers.js";
import { host } from "./host.js";
import { defineGlobal, defineGlobalMember } from "./interface.js";
import { Navigator, navigator } from "./navigator.js";
import { URLSearchParams } from "./url/search-params.js";
import { URL } from "./url/url.js";
import { URLPattern } from "./url/pattern.js";

for (const [name, value] of Object.entries({ createObjectURL, revokeObjectURL })) {
  Object.defineProperty(URL, name, { value, writable: true, enumerable: true, configurable: true });
}

const interfaces = {
  ...{ Blob, Cache, CacheStorage, Crypto, CryptoKey, File, FileReader, FormData, Headers, Navigator, Request, Response },
  ...{ SubtleCrypto, URL, URLPattern, URLSearchParams, ...eventInterfaces },
};
for (const [name, value] of Object.entries(interfaces)) defineGlobal(name, value);

defineGlobalMember("fetch", fetch);
for (const [name, value] of Object.entries({ caches, crypto, navigator })) {
  Object.defineProperty(globalThis, name, { get: () => value, enumerable: true, configurable: true });
}
defineGlobal("self", globalThis);

host.registerModule("cloudflare:workers", { WorkerEntrypoint, env });
