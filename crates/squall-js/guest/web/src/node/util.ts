// node:util.

import { console } from "../console.js";
import { TextDecoder } from "../encoding/text-decoder.js";
import { TextEncoder } from "../encoding/text-encoder.js";
import { host } from "../host.js";
import { customInspect, DEFAULT_OPTIONS, format, inspect } from "../inspect.js";
import type { AnyFunction } from "../webidl.js";
import { isDeepEqual } from "./deep-equal.js";
import { types } from "./util-types.js";

const customPromisify = Symbol.for("nodejs.util.promisify.custom");

function requireFunction(value: unknown): asserts value is AnyFunction {
  if (typeof value === "function") return;
  throw Object.assign(new TypeError('The "original" argument must be of type function'), { code: "ERR_INVALID_ARG_TYPE" });
}

/** A function that takes a callback, as one that returns a promise. */
function promisify(original: AnyFunction): AnyFunction {
  requireFunction(original);
  const custom = (original as unknown as Record<symbol, unknown>)[customPromisify];
  if (custom !== undefined) {
    requireFunction(custom);
    return custom;
  }
  const promised = function (this: unknown, ...values: unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      original.call(this, ...values, (error: unknown, value: unknown) => (error ? reject(error) : resolve(value)));
    });
  };
  Object.setPrototypeOf(promised, Object.getPrototypeOf(original) as object);
  return Object.defineProperties(promised, Object.getOwnPropertyDescriptors(original));
}
promisify.custom = customPromisify;

/** A function that returns a promise, as one that takes a callback. */
function callbackify(original: AnyFunction): AnyFunction {
  requireFunction(original);
  return function (this: unknown, ...values: unknown[]): void {
    const callback = values.pop() as AnyFunction;
    requireFunction(callback);
    (original.apply(this, values) as Promise<unknown>).then(
      (value) => queueMicrotask(() => callback(null, value)),
      (reason: unknown) => {
        const error = reason || Object.assign(new Error("Promise was rejected with a falsy value"), { reason });
        queueMicrotask(() => callback(error));
      },
    );
  };
}

declare function queueMicrotask(task: () => void): void;

function inherits(constructor: { prototype: object; super_?: unknown }, parent: { prototype: object }): void {
  Object.defineProperty(constructor, "super_", { value: parent, writable: true, configurable: true });
  Object.setPrototypeOf(constructor.prototype, parent.prototype);
}

function deprecate(original: AnyFunction, message: string, code: string | undefined = undefined): AnyFunction {
  let warned = false;
  return function (this: unknown, ...values: unknown[]): unknown {
    if (!warned) {
      warned = true;
      console.warn(`DeprecationWarning: ${code === undefined ? "" : `[${code}] `}${message}`);
    }
    return original.apply(this, values);
  };
}

/** Debugging by section is switched on by an environment that is not here. */
function debuglog(): AnyFunction & { enabled: boolean } {
  return Object.assign(() => undefined, { enabled: false });
}

// CSI sequences, and OSC sequences with their text.
const CONTROL_SEQUENCE = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;

function stripVTControlCharacters(text: string): string {
  return text.replace(CONTROL_SEQUENCE, "");
}

function formatWithOptions(options: object, ...values: unknown[]): string {
  return format(values, options);
}

const inspectWithMembers = Object.assign(
  (value: unknown, options: object | undefined = undefined): string => inspect(value, options),
  { custom: customInspect, defaultOptions: DEFAULT_OPTIONS },
);

export const util = {
  ...{ callbackify, debuglog, deprecate, formatWithOptions, inherits, promisify, stripVTControlCharacters },
  ...{ debug: debuglog, inspect: inspectWithMembers, types, TextDecoder, TextEncoder },
  format: (...values: unknown[]): string => format(values),
  isArray: Array.isArray,
  isDeepStrictEqual: (first: unknown, second: unknown): boolean => isDeepEqual(first, second, true),
  toUSVString: (text: unknown): string => String(text).toWellFormed(),
};
host.registerModule("node:util", { ...util, default: util });
host.registerModule("node:util/types", { ...types, default: types });
