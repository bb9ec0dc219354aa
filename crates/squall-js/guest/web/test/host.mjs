// A world for the web layer without the engine: a fresh realm of node's, with a `__host` whose
// operations are node's own. What the engine does in C is done here with node's internals, so
// run node with --expose-internals.

import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import vm from "node:vm";
import { makeCompressionOperations } from "./host/compression.mjs";
import { cryptoOperations } from "./host/crypto.mjs";
import { Refusal } from "./host/refusal.mjs";
import { makeRequestOperations } from "./host/requests.mjs";
import { makeTextOperations } from "./host/text.mjs";
import { urlOperations } from "./host/url.mjs";

export { Refusal };

const { internalBinding } = createRequire(import.meta.url)("internal/test/binding");
const { getPromiseDetails } = internalBinding("util");

const layer = process.env.SQUALL_WEB_LAYER ?? new URL("../dist/web.js", import.meta.url).pathname;
const script = new vm.Script(readFileSync(layer, "utf8"), { filename: "web.js" });

/** Globals of node's realms that the engine does not have. */
const NOT_IN_ENGINE = ["console", "WebAssembly", "Intl"];

/** What the engine has and this version of node does not. */
const NOT_IN_NODE = `
  Array.fromAsync ??= async function fromAsync(items) {
    const array = [];
    for await (const item of items) array.push(item);
    return array;
  };
`;

/**
 * options: `operations` adds to or replaces the operations, `env` is what ENV answers, `onLog`
 * hears of every line, `reportRejections` tells the layer of unhandled rejections.
 */
export function makeWorld(options = {}) {
  const context = vm.createContext({}, { codeGeneration: { strings: options.allowEval === true, wasm: false } });
  for (const name of NOT_IN_ENGINE) vm.runInContext(`delete globalThis.${name}`, context);
  vm.runInContext(NOT_IN_NODE, context);
  const inside = vm.runInContext("({ Array, ArrayBuffer, Uint8Array })", context);

  /** Values that cross belong to the realm within. */
  const cross = (value) => {
    if (value instanceof Uint8Array) return new inside.Uint8Array(value);
    if (Array.isArray(value)) return inside.Array.from(value, cross);
    return value;
  };
  // Fails for strings that TextDecoder refuses; see the comment in Engine for what these do.
  const utf8 = { strict: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }), lax: new TextDecoder("utf-8", { ignoreBOM: true }) };

  const logs = [];
  const modules = {};
  const bodies = new Map();
  const requests = makeRequestOperations(bodies);
  const begun = performance.now();
  const operations = {
    1: () => Date.now(),
    2: () => performance.now() - begun,
    3: (length) => new Uint8Array(randomBytes(length)),
    4: (milliseconds, signal) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => resolve(null), milliseconds);
        signal.addEventListener("abort", () => clearTimeout(timer));
      }),
    17: () => options.env ?? [],
    18(level, text) {
      logs.push([level, text]);
      options.onLog?.(level, text);
      return null;
    },
    30: () => Promise.reject(new Refusal("TypeError", "There is no network")),
    ...{ ...urlOperations, ...cryptoOperations, ...makeTextOperations(), ...makeCompressionOperations(), ...requests.operations },
    ...options.operations,
  };

  const find = (op) => {
    const operation = operations[op];
    if (operation === undefined) throw new Refusal("Error", `The test host has no operation ${op}`);
    return operation;
  };
  const current = new AsyncLocalStorage();
  const underWay = new Map();
  let lastOperation = 0;

  const host = {
    call(op, ...values) {
      try {
        return cross(find(op)(...values));
      } catch (error) {
        if (error instanceof Refusal) throw host.onRefusal(cross([error.name, error.message]));
        throw error;
      }
    },
    start(op, ...values) {
      const number = ++lastOperation;
      const controller = new AbortController();
      underWay.set(number, controller);
      // Each completion is a turn of its own, as in the engine.
      const complete = (failed, value) =>
        setImmediate(() => {
          if (!underWay.delete(number)) return;
          host.onComplete(number, failed, cross(value));
        });
      new Promise((resolve) => resolve(find(op)(...values, controller.signal, number))).then(
        (value) => complete(false, value),
        (error) => complete(true, [error.name, error.message]),
      );
      return number;
    },
    cancel(number) {
      underWay.get(number)?.abort();
      underWay.delete(number);
    },
    utf8Encode: (text) => new inside.Uint8Array(new TextEncoder().encode(text)),
    utf8Decode(bytes, fatal) {
      if (!fatal) return utf8.lax.decode(bytes);
      try {
        return utf8.strict.decode(bytes);
      } catch {
        return null;
      }
    },
    latin1Decode: (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1"),
    latin1Encode: (text) => (/[^\0-\xff]/.test(text) ? null : new inside.Uint8Array(Buffer.from(text, "latin1"))),
    getContext: () => current.getStore(),
    setContext: (value) => current.enterWith(value),
    transfer(buffer) {
      const bytes = buffer.slice(0);
      structuredClone(buffer, { transfer: [buffer] });
      return bytes;
    },
    promiseState: (promise) => getPromiseDetails(promise)[0],
    promiseResult: (promise) => getPromiseDetails(promise)[1],
    registerModule(name, exports) {
      modules[name] = exports;
    },
    onEvent() {},
    onComplete() {},
    onRejection() {},
    onRefusal() {},
  };

  context.__host = host;
  script.runInContext(context);
  if (options.reportRejections === true) {
    process.on("unhandledRejection", (reason, promise) => host.onRejection(promise, reason, false));
    process.on("rejectionHandled", (promise) => host.onRejection(promise, undefined, true));
  }

  /** Runs a script; its value is the last expression's. */
  const run = (source, filename = "test.js") => vm.runInContext(source, context, { filename });
  /** Delivers an event; values cross. */
  const event = (kind, ...values) => host.onEvent(kind, ...values.map(cross));
  /** Ends the load with these exports, an object of the realm within. */
  const load = (exports) => host.onEvent("load", exports);

  let lastRequest = 0;
  /** Sends a request to the handler that was loaded; resolves when it has ended. */
  const request = (method, url, headers = [], body = null) => {
    const id = ++lastRequest;
    event("fetch", id, method, url, headers, body);
    return requests.answerOf(id).end;
  };
  return { ...{ bodies, context, event, host, load, logs, modules, operations, request, run }, answers: requests.answers, underWay };
}
