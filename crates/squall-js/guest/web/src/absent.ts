// Names of the Workers runtime that are not offered here: using one says so. Names that programs
// look for before they use them (WebSocket, MessageChannel) stay undefined instead.

import { Cache, CacheStorage } from "./cache/cache.js";
import { defineGlobal } from "./interface.js";

const CLASSES: Record<string, string> = {
  HTMLRewriter: "change the text, or a stream of it, instead",
  WebSocketPair: "connections beyond HTTP requests are not offered",
};

function absent(name: string, instead: string): never {
  throw new Error(`${name} is not offered by this runtime: ${instead}.`);
}

for (const name of Object.keys(CLASSES)) {
  const instead = CLASSES[name]!;
  const value = function (): void {
    absent(name, instead);
  };
  Object.defineProperty(value, "name", { value: name, configurable: true });
  defineGlobal(name, value);
}

const METHODS: [prototype: object, owner: string, names: string[], instead: string][] = [
  [CacheStorage.prototype, "caches", ["delete", "has", "keys", "match"], "open a cache by its name, and use that"],
  [Cache.prototype, "Cache", ["add", "addAll"], "fetch, and put what came"],
  [Cache.prototype, "Cache", ["keys", "matchAll"], "match one request at a time"],
];

for (const [prototype, owner, names, instead] of METHODS) {
  for (const name of names) {
    const value = (): never => absent(`${owner}.${name}`, instead);
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
  }
}
