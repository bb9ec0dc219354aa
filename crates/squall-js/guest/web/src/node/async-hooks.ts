// node:async_hooks: values that follow the flow of a program. The engine carries the context from
// a promise to its reactions, host.ts from an operation to its completion.

import { type Context, host } from "../host.js";
import { restoreName } from "../interface.js";
import { type AnyFunction, callbackFunction } from "../webidl.js";

function withLocals(locals: ReadonlyMap<object, unknown> | null): Context {
  return { request: host.getContext().request, locals };
}

/** Calls a function in a context, and comes back to the one that was before. */
function runIn<T>(context: Context, callback: (...values: never[]) => T, receiver: unknown, values: unknown[]): T {
  const before = host.getContext();
  host.setContext(context);
  try {
    return callback.apply(receiver, values as never[]);
  } finally {
    host.setContext(before);
  }
}

export class AsyncLocalStorage<T = unknown> {
  readonly #defaultValue: T | undefined;
  readonly name: string;

  constructor(options: { defaultValue?: T; name?: string } | undefined = undefined) {
    this.#defaultValue = options?.defaultValue;
    this.name = options?.name ?? "";
  }

  static bind<F extends AnyFunction>(callback: F): F {
    return AsyncResource.bind(callback);
  }

  /** A function that calls others in the context of now. */
  static snapshot(): (callback: AnyFunction, ...values: unknown[]) => unknown {
    const context = host.getContext();
    return function (this: unknown, callback, ...values) {
      return runIn(context, callback, this, values);
    };
  }

  getStore(): T | undefined {
    const { locals } = host.getContext();
    if (locals === null || !locals.has(this)) return this.#defaultValue;
    return locals.get(this) as T | undefined;
  }

  run<R>(store: T, callback: (...values: never[]) => R, ...values: unknown[]): R {
    return runIn(withLocals(this.#with(store)), callback, undefined, values);
  }

  exit<R>(callback: (...values: never[]) => R, ...values: unknown[]): R {
    return runIn(withLocals(this.#without()), callback, undefined, values);
  }

  enterWith(store: T): void {
    host.setContext(withLocals(this.#with(store)));
  }

  disable(): void {
    host.setContext(withLocals(this.#without()));
  }

  #with(store: T): ReadonlyMap<object, unknown> {
    const { locals } = host.getContext();
    const copy = locals === null ? new Map<object, unknown>() : new Map(locals);
    return copy.set(this, store);
  }

  #without(): ReadonlyMap<object, unknown> | null {
    const { locals } = host.getContext();
    if (locals === null) return null;
    const copy = new Map(locals);
    copy.delete(this);
    return copy.size === 0 ? null : copy;
  }
}

let lastAsyncId = 1;

export class AsyncResource {
  readonly type: string;
  readonly #context = host.getContext();
  readonly #id = ++lastAsyncId;

  constructor(type: string) {
    if (typeof type !== "string") throw new TypeError("An AsyncResource needs the name of its type");
    this.type = type;
  }

  static bind<F extends AnyFunction>(callback: F, type = "bound-anonymous-fn", receiver: unknown = undefined): F {
    return new AsyncResource(type).bind(callback, receiver);
  }

  runInAsyncScope<R>(callback: (...values: never[]) => R, receiver: unknown = undefined, ...values: unknown[]): R {
    return runIn(this.#context, callback, receiver, values);
  }

  bind<F extends AnyFunction>(callback: F, receiver: unknown = undefined): F {
    callbackFunction(callback, "What an AsyncResource binds");
    const context = this.#context;
    const bound = function (this: unknown, ...values: unknown[]): unknown {
      return runIn(context, callback, receiver ?? this, values);
    };
    Object.defineProperty(bound, "length", { value: callback.length, configurable: true });
    return bound as F;
  }

  emitDestroy(): this {
    return this;
  }

  asyncId(): number {
    return this.#id;
  }

  triggerAsyncId(): number {
    return 0;
  }
}

restoreName(AsyncLocalStorage);
restoreName(AsyncResource);
const exports = {
  AsyncLocalStorage,
  AsyncResource,
  executionAsyncId: (): number => 0,
  triggerAsyncId: (): number => 0,
};
host.registerModule("node:async_hooks", { ...exports, default: exports });
