// Timers and microtasks. A timer is an operation of the host that belongs to the request that
// set it, and ends with it.
// https://html.spec.whatwg.org/#timers

import { cancel, host, startWithCallback, type Timer } from "./host.js";
import { isLoading, refuseAtLoad } from "./load.js";
import { SLEEP } from "./ops.js";
import { reportException } from "./report.js";
import { type AnyFunction, callbackFunction, long, requireArguments } from "./webidl.js";

/** Timers that were set by no request: at load there are none, so only tests have some. */
const unowned = new Map<number, Timer>();

/** The number that the program knows; those of one instance are never alike. */
let lastId = 0;

function timersHere(): Map<number, Timer> {
  return host.getContext().request?.timers ?? unowned;
}

function set(what: string, handler: unknown, timeout: unknown, values: unknown[], repeat: boolean): number {
  const callback = functionOf(handler, what);
  const delay = Math.max(0, long(timeout));
  if (isLoading()) refuseAtLoad(what);
  const id = ++lastId;
  const timers = timersHere();
  const timer: Timer = { operation: 0 };
  const run = (): void => {
    if (!repeat) timers.delete(id);
    try {
      callback.apply(globalThis, values);
    } catch (error) {
      reportException(error);
    }
    // The callback may have cleared it.
    if (repeat && timers.has(id)) timer.operation = startWithCallback(run, SLEEP, delay);
  };
  timer.operation = startWithCallback(run, SLEEP, delay);
  timers.set(id, timer);
  return id;
}

function functionOf(handler: unknown, what: string): AnyFunction {
  if (typeof handler === "function") return handler as AnyFunction;
  // A string would be code to compile.
  throw new EvalError(`${what} needs a function: code generation from strings is off`);
}

function clear(id: unknown): void {
  const number = long(id);
  const timers = timersHere();
  const timer = timers.get(number);
  if (timer === undefined) return;
  timers.delete(number);
  cancel(timer.operation);
}

/** The global functions; as members of an object literal they are no constructors. */
export const timerFunctions = {
  setTimeout(handler: unknown, timeout: unknown = 0, ...values: unknown[]): number {
    requireArguments(arguments.length, 1, "setTimeout");
    return set("setTimeout", handler, timeout, values, false);
  },
  clearTimeout(id: unknown = 0): void {
    clear(id);
  },
  setInterval(handler: unknown, timeout: unknown = 0, ...values: unknown[]): number {
    requireArguments(arguments.length, 1, "setInterval");
    return set("setInterval", handler, timeout, values, true);
  },
  clearInterval(id: unknown = 0): void {
    clear(id);
  },
  queueMicrotask(callback: unknown): void {
    requireArguments(arguments.length, 1, "queueMicrotask");
    const task = callbackFunction(callback, "The argument of queueMicrotask");
    void settled.then(() => {
      try {
        task();
      } catch (error) {
        reportException(error);
      }
    });
  },
  /** As in node: after what is at hand, before the next timer. */
  setImmediate(handler: unknown, ...values: unknown[]): number {
    requireArguments(arguments.length, 1, "setImmediate");
    return set("setImmediate", handler, 0, values, false);
  },
  clearImmediate(id: unknown): void {
    clear(id);
  },
};

const settled = Promise.resolve();
