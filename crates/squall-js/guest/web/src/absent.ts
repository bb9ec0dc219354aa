// Names of the Workers runtime that are not offered here: using one says so. Names that programs
// look for before they use them (WebSocket, MessageChannel) stay undefined instead.

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

const NO_CACHE = "keep responses in a key-value binding, or set Cache-Control and let the gateway cache";

/** `caches` is often looked at before it is used, so only its use throws. */
const cache: object = {
  match: () => absent("caches", NO_CACHE),
  put: () => absent("caches", NO_CACHE),
  delete: () => absent("caches", NO_CACHE),
};

defineGlobal("caches", {
  get default(): object {
    return cache;
  },
  open: () => absent("caches", NO_CACHE),
  match: () => absent("caches", NO_CACHE),
  has: () => absent("caches", NO_CACHE),
  delete: () => absent("caches", NO_CACHE),
  keys: () => absent("caches", NO_CACHE),
});
