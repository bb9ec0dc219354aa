// node:events: EventEmitter.

import { type AbortSignal, isAbortSignal } from "../abort.js";
import { console } from "../console.js";
import { EventTarget } from "../events.js";
import { host } from "../host.js";
import { inspect } from "../inspect.js";
import type { AnyFunction } from "../webidl.js";

type EventName = string | symbol;
interface Listener {
  readonly callback: AnyFunction;
  readonly once: boolean;
}

const errorMonitor = Symbol("events.errorMonitor");
let defaultMaxListeners = 10;

function requireFunction(callback: unknown): asserts callback is AnyFunction {
  if (typeof callback !== "function") {
    throw Object.assign(new TypeError('The "listener" argument must be of type function'), { code: "ERR_INVALID_ARG_TYPE" });
  }
}

export class EventEmitter {
  /** Replaced at each change, so that an emit goes on with what it has. Not private: programs inherit
   *  by EventEmitter.call(this) and by copying the prototype, where nothing makes private fields. */
  declare _events: Map<EventName, readonly Listener[]> | undefined;
  declare _maxListeners: number | undefined;
  declare _warned: Set<EventName> | undefined;

  static errorMonitor = errorMonitor;
  static captureRejectionSymbol = Symbol.for("nodejs.rejection");

  static get defaultMaxListeners(): number {
    return defaultMaxListeners;
  }

  static set defaultMaxListeners(count: number) {
    defaultMaxListeners = count;
  }

  on(name: EventName, callback: AnyFunction): this {
    return addListener(this, name, callback, false, false);
  }

  addListener(name: EventName, callback: AnyFunction): this {
    return addListener(this, name, callback, false, false);
  }

  once(name: EventName, callback: AnyFunction): this {
    return addListener(this, name, callback, true, false);
  }

  prependListener(name: EventName, callback: AnyFunction): this {
    return addListener(this, name, callback, false, true);
  }

  prependOnceListener(name: EventName, callback: AnyFunction): this {
    return addListener(this, name, callback, true, true);
  }

  off(name: EventName, callback: AnyFunction): this {
    return this.removeListener(name, callback);
  }

  removeListener(name: EventName, callback: AnyFunction): this {
    requireFunction(callback);
    const listeners = this._events?.get(name);
    const index = listeners?.findLastIndex((listener) => listener.callback === callback) ?? -1;
    if (index < 0) return this;
    setListeners(this, name, listeners!.toSpliced(index, 1));
    if (this._events!.has("removeListener")) this.emit("removeListener", name, callback);
    return this;
  }

  removeAllListeners(name: EventName | undefined = undefined): this {
    if (this._events === undefined) return this;
    if (this._events.has("removeListener")) {
      const names = name === undefined ? this.eventNames().filter((one) => one !== "removeListener") : [name];
      for (const one of names) for (const callback of this.rawListeners(one).reverse()) this.removeListener(one, callback);
    }
    if (name === undefined) this._events = undefined;
    else this._events.delete(name);
    return this;
  }

  emit(name: EventName, ...values: unknown[]): boolean {
    const events = this._events;
    if (name === "error") {
      if (events?.has(errorMonitor)) run(this, errorMonitor, values);
      if (!events?.has(name)) throw unhandled(values[0]);
    }
    return events === undefined ? false : run(this, name, values);
  }

  listenerCount(name: EventName, callback: AnyFunction | undefined = undefined): number {
    const listeners = this._events?.get(name) ?? [];
    if (callback === undefined) return listeners.length;
    return listeners.filter((listener) => listener.callback === callback).length;
  }

  listeners(name: EventName): AnyFunction[] {
    return (this._events?.get(name) ?? []).map((listener) => listener.callback);
  }

  rawListeners(name: EventName): AnyFunction[] {
    return this.listeners(name);
  }

  eventNames(): EventName[] {
    return this._events === undefined ? [] : [...this._events.keys()];
  }

  setMaxListeners(count: number): this {
    if (typeof count !== "number" || !(count >= 0)) throw new RangeError("The number of listeners is not negative");
    this._maxListeners = count;
    return this;
  }

  getMaxListeners(): number {
    return this._maxListeners ?? defaultMaxListeners;
  }
}

function addListener<T extends EventEmitter>(
  emitter: T,
  name: EventName,
  callback: AnyFunction,
  once: boolean,
  first: boolean,
): T {
  requireFunction(callback);
  if (emitter._events?.has("newListener")) emitter.emit("newListener", name, callback);
  const listeners = emitter._events?.get(name) ?? [];
  const listener = { callback, once };
  setListeners(emitter, name, first ? [listener, ...listeners] : [...listeners, listener]);
  const most = emitter.getMaxListeners();
  if (most > 0 && listeners.length >= most && !emitter._warned?.has(name)) {
    (emitter._warned ??= new Set()).add(name);
    console.warn(
      `MaxListenersExceededWarning: ${listeners.length + 1} ${String(name)} listeners were added to an EventEmitter: ` +
        "this may be a leak. emitter.setMaxListeners() raises the limit.",
    );
  }
  return emitter;
}

function setListeners(emitter: EventEmitter, name: EventName, listeners: readonly Listener[]): void {
  emitter._events ??= new Map();
  if (listeners.length === 0) emitter._events.delete(name);
  else emitter._events.set(name, listeners);
}

function run(emitter: EventEmitter, name: EventName, values: unknown[]): boolean {
  const listeners = emitter._events!.get(name);
  if (listeners === undefined) return false;
  for (const { callback, once } of listeners) {
    if (once) emitter.removeListener(name, callback);
    callback.apply(emitter, values);
  }
  return true;
}

function unhandled(error: unknown): unknown {
  if (error instanceof Error) return error;
  const message = `Unhandled error. (${typeof error === "string" ? `'${error}'` : inspect(error)})`;
  return Object.assign(new Error(message), { code: "ERR_UNHANDLED_ERROR", context: error });
}

interface Options {
  signal?: AbortSignal;
}

function checkSignal(options: Options | undefined): AbortSignal | undefined {
  const signal = options?.signal;
  if (signal === undefined) return undefined;
  if (!isAbortSignal(signal)) throw new TypeError("The signal option is no AbortSignal");
  return signal;
}

function aborted(signal: AbortSignal): Error {
  const error = new Error("The operation was aborted", { cause: signal.reason });
  return Object.assign(error, { name: "AbortError", code: "ABORT_ERR" });
}

/** The values of the next event of this name. */
function once(emitter: EventEmitter | EventTarget, name: string, options: Options | undefined = undefined): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const signal = checkSignal(options);
    if (signal?.aborted) return reject(aborted(signal));
    if (emitter instanceof EventTarget) {
      emitter.addEventListener(name, (event: unknown) => resolve([event]), { once: true, signal });
      signal?.addEventListener("abort", () => reject(aborted(signal)), { once: true });
      return;
    }
    const stop = (): void => {
      emitter.removeListener(name, onEvent);
      emitter.removeListener("error", onError);
      signal?.removeEventListener("abort", onAbort);
    };
    const onEvent = (...values: unknown[]): void => {
      stop();
      resolve(values);
    };
    const onError = (error: unknown): void => {
      stop();
      reject(error);
    };
    const onAbort = (): void => {
      stop();
      reject(aborted(signal!));
    };
    emitter.once(name, onEvent);
    if (name !== "error") emitter.once("error", onError);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** The values of all events of this name, as they come. */
function on(emitter: EventEmitter, name: string, options: Options | undefined = undefined): AsyncIterableIterator<unknown[]> {
  const signal = checkSignal(options);
  if (signal?.aborted) throw aborted(signal);
  const arrived: unknown[][] = [];
  const waiting: { resolve: (result: IteratorResult<unknown[]>) => void; reject: (error: unknown) => void }[] = [];
  let failure: { error: unknown } | null = null;
  let finished = false;
  const onEvent = (...values: unknown[]): void => {
    const next = waiting.shift();
    if (next === undefined) arrived.push(values);
    else next.resolve({ value: values, done: false });
  };
  const onError = (error: unknown): void => {
    const next = waiting.shift();
    if (next === undefined) failure = { error };
    else next.reject(error);
    stop();
  };
  const onAbort = (): void => onError(aborted(signal!));
  const stop = (): void => {
    finished = true;
    emitter.removeListener(name, onEvent);
    emitter.removeListener("error", onError);
    signal?.removeEventListener("abort", onAbort);
    for (const next of waiting.splice(0)) next.resolve({ value: undefined, done: true });
  };
  emitter.on(name, onEvent);
  if (name !== "error") emitter.on("error", onError);
  signal?.addEventListener("abort", onAbort, { once: true });
  return {
    next() {
      const values = arrived.shift();
      if (values !== undefined) return Promise.resolve({ value: values, done: false });
      if (failure !== null) {
        const { error } = failure;
        failure = null;
        return Promise.reject(error);
      }
      if (finished) return Promise.resolve({ value: undefined, done: true });
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
    return() {
      stop();
      return Promise.resolve({ value: undefined, done: true });
    },
    throw(error: unknown) {
      onError(error);
      return Promise.resolve({ value: undefined, done: true });
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

/** A constructor that can also be called on an object, as older programs inherit. */
const callable = new Proxy(EventEmitter, { apply: () => undefined });

const members = {
  EventEmitter: callable,
  ...{ errorMonitor, on, once },
  captureRejectionSymbol: EventEmitter.captureRejectionSymbol,
  getEventListeners: (emitter: EventEmitter, name: string): AnyFunction[] => emitter.listeners(name),
  getMaxListeners: (emitter: EventEmitter): number => emitter.getMaxListeners(),
  listenerCount: (emitter: EventEmitter, name: string): number => emitter.listenerCount(name),
  setMaxListeners(count: number, ...emitters: EventEmitter[]): void {
    if (emitters.length === 0) defaultMaxListeners = count;
    for (const emitter of emitters) emitter.setMaxListeners?.(count);
  },
};
Object.assign(EventEmitter, members);
EventEmitter.prototype.constructor = callable;
host.registerModule("node:events", {
  ...members,
  get defaultMaxListeners(): number {
    return defaultMaxListeners;
  },
  default: callable,
});
