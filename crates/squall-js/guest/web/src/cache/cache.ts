// Cache and CacheStorage, as Workers have them: match, put and delete of responses that the node
// keeps for all functions of the app. What may be stored, and for how long, the response says in
// its headers; the host reads them.
// https://w3c.github.io/ServiceWorker/#cache-interface

import type { OutgoingBody } from "../fetch/body.js";
import { readHead, writeBody } from "../fetch/fetch.js";
import { headerOf } from "../fetch/headers.js";
import { isRequest, Request, requestParts } from "../fetch/request.js";
import { isResponse, type Response, responseHeaderList, takeResponseBody } from "../fetch/response.js";
import { isReadableStream, type ReadableStream } from "../fetch/stream-access.js";
import { type HostValue, start, startWithNumber } from "../host.js";
import { finishInterface } from "../interface.js";
import { refuseAtLoad } from "../load.js";
import { CACHE_DELETE, CACHE_FIND, CACHE_PUT } from "../ops.js";
import { dictionary, domString, requireArguments } from "../webidl.js";

/** Asks the constructors for an instance: programs get theirs from `caches`. */
const OURS = Symbol("ours");

/** What names an entry, as the host takes it. */
interface Key {
  method: string;
  url: string;
  headers: string[];
}

const NAME_LENGTH_MAX = 1024;

export class Cache {
  /** null for the default cache. */
  #name: string | null;

  constructor(...given: unknown[]) {
    const [asker, name] = given;
    if (asker !== OURS) throw new TypeError("Illegal constructor");
    this.#name = name as string | null;
  }

  async match(request: unknown, options: unknown = undefined): Promise<Response | undefined> {
    requireArguments(arguments.length, 1, "match");
    refuseAtLoad("caches");
    const key = readKey(request);
    if (!canBeThere(key, ignoresMethod(options))) return undefined;
    const found = await start(CACHE_FIND, this.#name, key.url, key.headers);
    return found === null ? undefined : readHead(found).response;
  }

  async put(request: unknown, response: unknown): Promise<void> {
    requireArguments(arguments.length, 2, "put");
    refuseAtLoad("caches");
    const key = readKey(request);
    if (!isResponse(response)) throw new TypeError("put takes a Response");
    checkPut(key, response);
    const { url } = key;
    const { status } = response;
    const headers = responseHeaderList(response);
    const body = takeResponseBody(response);
    const streamed = isReadableStream(body);
    const sent: HostValue = streamed ? true : (body as Exclude<OutgoingBody, ReadableStream>);
    const { operation, promise } = startWithNumber(CACHE_PUT, this.#name, url, key.headers, status, headers, sent);
    if (!streamed) {
      await promise;
      return;
    }
    const writing = writeBody(operation, body);
    try {
      await promise;
      // The host may have decided by the head alone.
      writing.stop(undefined);
    } catch (error) {
      throw writing.failure === null ? error : writing.failure.reason;
    }
  }

  async delete(request: unknown, options: unknown = undefined): Promise<boolean> {
    requireArguments(arguments.length, 1, "delete");
    refuseAtLoad("caches");
    const key = readKey(request);
    if (!canBeThere(key, ignoresMethod(options))) return false;
    return (await start(CACHE_DELETE, this.#name, key.url, key.headers)) as boolean;
  }
}

finishInterface(Cache);

export class CacheStorage {
  readonly #default = this.#make(null);

  constructor(...given: unknown[]) {
    if (given[0] !== OURS) throw new TypeError("Illegal constructor");
  }

  /** The cache that needs no opening. */
  get default(): Cache {
    return this.#default;
  }

  /** A cache apart from the others. It is there once it is named. */
  async open(name: unknown): Promise<Cache> {
    requireArguments(arguments.length, 1, "open");
    const text = domString(name);
    if (text === "") throw new TypeError("A cache needs a name; caches.default is the one without");
    if (text.length > NAME_LENGTH_MAX) throw new TypeError(`The name of a cache has ${NAME_LENGTH_MAX} characters at most`);
    return this.#make(text.toWellFormed());
  }

  #make(name: string | null): Cache {
    return new Cache(OURS, name);
  }
}

finishInterface(CacheStorage);

export const caches = new CacheStorage(OURS);

function readKey(input: unknown): Key {
  return requestParts(isRequest(input) ? input : new Request(input));
}

// https://w3c.github.io/ServiceWorker/#dictdef-cachequeryoptions
function ignoresMethod(options: unknown): boolean {
  return Boolean(dictionary(options, "options")?.["ignoreMethod"]);
}

/** Only what GET is answered with is ever stored. */
function canBeThere(key: Key, anyMethod: boolean): boolean {
  return key.url.startsWith("http") && (anyMethod || key.method === "GET");
}

function checkPut({ method, url }: Key, response: Response): void {
  if (!url.startsWith("http")) throw new TypeError(`A cache takes http: and https: URLs, not ${JSON.stringify(url)}`);
  if (method !== "GET") throw new TypeError(`A cache takes responses to GET, not to ${method}`);
  const { status } = response;
  if (status === 206) throw new TypeError("A cache takes whole responses, not a part (status 206)");
  if (status === 304) throw new TypeError("A cache takes responses, not word that nothing has changed (status 304)");
  if (status === 0) throw new TypeError("A cache takes responses, not a network error");
  const vary = headerOf(responseHeaderList(response), "vary");
  if (vary?.split(",").some((name) => name.trim() === "*") === true) {
    throw new TypeError("A response with Vary: * can not be found again");
  }
}
