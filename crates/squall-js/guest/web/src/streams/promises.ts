// Promises as the Streams standard uses them: reactions that a program's own `then` does not see,
// and as few objects for each chunk as can be.

const promiseThen = Promise.prototype.then;
const promiseResolve = Promise.resolve;
const promiseReject = Promise.reject;
const PromiseConstructor = Promise;

/** For reactions only. It is shared, so no program may get hold of it. */
export const RESOLVED: Promise<unknown> = Promise.resolve(undefined);

export function noop(): void {}

export function react(
  promise: Promise<unknown>,
  onFulfilled: ((value: never) => unknown) | undefined,
  onRejected?: (reason: unknown) => unknown,
): Promise<unknown> {
  return promiseThen.call(promise, onFulfilled as (value: unknown) => unknown, onRejected);
}

/** A rejection of it is not reported as unhandled. */
export function markHandled(promise: Promise<unknown>): void {
  promiseThen.call(promise, undefined, noop);
}

/** Runs after what runs now. */
export function microtask(task: () => void): void {
  promiseThen.call(RESOLVED, task);
}

export function resolved<T>(value: T): Promise<Awaited<T>> {
  return promiseResolve.call(PromiseConstructor, value) as Promise<Awaited<T>>;
}

export function rejected(reason: unknown): Promise<never> {
  return promiseReject.call(PromiseConstructor, reason) as Promise<never>;
}

/** What a callback gave, for reactions only. */
export function promiseOf(value: unknown): Promise<unknown> {
  return value === undefined ? RESOLVED : resolved(value);
}

/** As `promiseOf`, a few turns later where the value is a promise: the standard counts on it at times. */
export function promiseLaterOf(value: unknown): Promise<unknown> {
  const deferred = new Deferred<unknown>();
  deferred.settle(value);
  return deferred.promise;
}

// A program's function may have a `call` of its own.
export const apply = Reflect.apply;

/** Calls a program's function whose result is a promise; exceptions become rejections. */
export function invoke(
  callback: (...values: never[]) => unknown,
  owner: unknown,
  values: readonly unknown[],
): Promise<unknown> {
  try {
    return promiseOf(apply(callback, owner, values));
  } catch (error) {
    return rejected(error);
  }
}

export const NO_VALUES: readonly unknown[] = [];

let lastResolve: (value: never) => void;
let lastReject: (reason: unknown) => void;

// One function for all: a closure for each promise would be garbage at once.
function keepFunctions(resolve: (value: never) => void, reject: (reason: unknown) => void): void {
  lastResolve = resolve;
  lastReject = reject;
}

/** A promise that is settled from outside. */
export class Deferred<T = undefined> {
  readonly promise: Promise<T>;
  readonly settle: (value: T | PromiseLike<T>) => void;
  readonly reject: (reason: unknown) => void;
  pending = true;

  constructor() {
    this.promise = new PromiseConstructor<T>(keepFunctions as never);
    this.settle = lastResolve as (value: unknown) => void;
    this.reject = lastReject;
  }

  resolve(value: T | PromiseLike<T>): void {
    this.pending = false;
    this.settle(value);
  }

  /** Rejects, and nobody needs to listen. */
  fail(reason: unknown): void {
    this.pending = false;
    markHandled(this.promise);
    this.reject(reason);
  }
}

export function resolvedDeferred(): Deferred {
  const deferred = new Deferred();
  deferred.resolve(undefined);
  return deferred;
}

export function failedDeferred(reason: unknown): Deferred {
  const deferred = new Deferred();
  deferred.fail(reason);
  return deferred;
}
