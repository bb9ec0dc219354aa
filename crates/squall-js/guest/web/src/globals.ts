// Every global, with the property attributes that Web IDL asks for. Interfaces are not
// enumerable, functions and attributes of the scope are.

import "./absent.js";
import "./globals-events.js";
import "./globals-fetch.js";
import "./globals-streams.js";
import { base64Functions } from "./base64.js";
import { console } from "./console.js";
import { TextDecoder } from "./encoding/text-decoder.js";
import { TextEncoder } from "./encoding/text-encoder.js";
import { DOMException, QuotaExceededError } from "./errors.js";
import { defineGlobal, defineGlobalMember } from "./interface.js";
import { Buffer } from "./node/buffer.js";
import { process } from "./node/process.js";
import "./node/modules.js";
import { Performance, performance, PerformanceEntry, PerformanceMark, PerformanceMeasure } from "./performance.js";
import { structuredClone } from "./structured-clone.js";
import { timerFunctions } from "./timers.js";

const interfaces = {
  ...{ DOMException, QuotaExceededError, TextDecoder, TextEncoder },
  ...{ Performance, PerformanceEntry, PerformanceMark, PerformanceMeasure },
};
for (const [name, value] of Object.entries(interfaces)) defineGlobal(name, value);

const functions = { ...base64Functions, ...timerFunctions, structuredClone };
for (const [name, value] of Object.entries(functions)) {
  // Arguments with a default do not count for `length`; the standards' functions have one each.
  const length = name.startsWith("clear") ? 0 : 1;
  Object.defineProperty(value, "length", { value: length, configurable: true });
  defineGlobalMember(name, value);
}

Object.defineProperty(globalThis, "performance", {
  get: () => performance,
  set(value: unknown) {
    defineGlobalMember("performance", value);
  },
  enumerable: true,
  configurable: true,
});
defineGlobal("console", console);

// What programs for Node.js expect.
for (const [name, value] of Object.entries({ Buffer, process, global: globalThis })) defineGlobal(name, value);
