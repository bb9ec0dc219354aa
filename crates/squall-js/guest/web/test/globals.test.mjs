import assert from "node:assert/strict";
import test from "node:test";
import { makeWorld } from "./host.mjs";

const { run } = makeWorld();

test("classes have the names under which they are found", () => {
  const wrong = run(`Object.getOwnPropertyNames(globalThis)
    .filter((name) => /^[A-Z]/.test(name) && typeof globalThis[name] === "function")
    .filter((name) => globalThis[name].name !== name).join()`);
  assert.equal(wrong, "");
});

test("interfaces are not enumerable, functions of the scope are", () => {
  const enumerable = run("Object.keys(globalThis).sort().join()").split(",");
  const expected = [
    ...["addEventListener", "atob", "btoa", "caches", "clearImmediate", "clearInterval", "clearTimeout", "crypto", "dispatchEvent"],
    ...["fetch", "navigator", "onerror", "onrejectionhandled", "onunhandledrejection", "performance", "queueMicrotask"],
    ...["removeEventListener", "reportError", "setImmediate", "setInterval", "setTimeout", "structuredClone"],
  ];
  assert.deepEqual(enumerable, expected);
});

test("the boundary is out of reach", () => {
  assert.equal(run("typeof __host"), "undefined");
});

test("methods are enumerable and the tag is the name", () => {
  assert.equal(run("Object.keys(AbortSignal.prototype).join()"), "aborted,reason,throwIfAborted,onabort");
  assert.equal(run("String(new TextEncoder())"), "[object TextEncoder]");
});
