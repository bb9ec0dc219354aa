// The boundary to the host: everything that is not computation crosses it, as a numbered
// operation with plain values. What crosses can be recorded and played back, so nothing
// else may read a clock, draw a random number or wait for the world.

/** What crosses the boundary. Objects become flat arrays before they do. */
export type HostValue = null | undefined | boolean | number | string | Uint8Array | HostValue[];

/** What carries from a task to those it starts. Replaced, never changed. */
export interface Context {
  /** The request that a task belongs to; null while the module loads. */
  readonly request: RequestOwner | null;
  /** Values of AsyncLocalStorage, by storage. */
  readonly locals: ReadonlyMap<object, unknown> | null;
}

/** A timer as its request keeps it. */
export interface Timer {
  operation: number;
}

/** What the host boundary must know of a request: which operations end with it. */
export interface RequestOwner {
  readonly id: number;
  /** Nothing more happens for it. */
  readonly ended: boolean;
  /** Operations under way, by number. */
  readonly operations: Set<number>;
  /** Timers that have not been cleared, by the number that the program knows. */
  readonly timers: Map<number, Timer>;
}

/** The object that the engine's C side puts into the global scope. */
interface Engine {
  /** A synchronous operation. Throws what the host refuses. */
  call(op: number, ...values: HostValue[]): HostValue;
  /** Begins an asynchronous operation and returns its number. */
  start(op: number, ...values: HostValue[]): number;
  /** Gives an operation up; its completion never comes. */
  cancel(operation: number): void;
  /** UTF-8 of a string; lone surrogates become U+FFFD. */
  utf8Encode(text: string): Uint8Array;
  /** A string from UTF-8. With `fatal`, null for malformed input. A BOM is kept. */
  utf8Decode(bytes: Uint8Array, fatal: boolean): string | null;
  /** One character for each byte. */
  latin1Decode(bytes: Uint8Array): string;
  /** null where a character is above 0xff. */
  latin1Encode(text: string): Uint8Array | null;
  getContext(): Context;
  setContext(context: Context): void;
  /** Takes the bytes out of a buffer and leaves it detached. */
  transfer(buffer: ArrayBuffer): ArrayBuffer;
  /** 0 pending, 1 fulfilled, 2 rejected: lets a settled promise be taken without a turn. */
  promiseState(promise: Promise<unknown>): 0 | 1 | 2;
  promiseResult(promise: Promise<unknown>): unknown;
  /**
   * Lets a program import a module of this name. The object's enumerable keys are its exports;
   * `default` is among them, or else it is the object.
   */
  registerModule(name: string, exports: object): void;
  /** Makes the exception that `call` throws for a refusal of the host. */
  onRefusal: (value: HostValue) => unknown;
  onEvent: (kind: string, ...values: HostValue[]) => void;
  onComplete: (operation: number, failed: boolean, value: HostValue) => void;
  onRejection: (promise: Promise<unknown>, reason: unknown, handled: boolean) => void;
}

declare const __host: Engine;

const engine = __host;
delete (globalThis as { __host?: Engine }).__host;

export const host: Engine = engine;

/** The context of everything that belongs to no request. */
engine.setContext(Object.freeze({ request: null, locals: null }));

interface Pending {
  readonly context: Context;
  readonly resolve: (value: HostValue) => void;
  readonly reject: (reason: unknown) => void;
}

const pending = new Map<number, Pending>();

/** How a failure of the host becomes an exception; set by errors.ts, which knows them. */
let toException: (value: HostValue) => unknown = (value) => new Error(String(value));

export function setExceptionMaker(make: (value: HostValue) => unknown): void {
  toException = make;
  engine.onRefusal = make;
}

/** A synchronous operation. */
export function call(op: number, ...values: HostValue[]): HostValue {
  return engine.call(op, ...values);
}

/** An asynchronous operation that belongs to the current request. */
export function start(op: number, ...values: HostValue[]): Promise<HostValue> {
  return startWithNumber(op, ...values).promise;
}

/** As `start`, with the number that `cancel` takes. */
export function startWithNumber(
  op: number,
  ...values: HostValue[]
): { operation: number; promise: Promise<HostValue> } {
  let operation = 0;
  const promise = new Promise<HostValue>((resolve, reject) => {
    operation = startWithCallbacks(resolve, reject, op, ...values);
  });
  return { operation, promise };
}

/** The number of no operation. */
const NEVER_STARTED = 0;

/** As `start`, with callbacks in place of a promise: for what happens for every chunk. */
export function startWithCallbacks(
  resolve: (value: HostValue) => void,
  reject: (reason: unknown) => void,
  op: number,
  ...values: HostValue[]
): number {
  const context = engine.getContext();
  // Nothing starts for a request that has ended: nobody would cancel it. As with what was cancelled
  // when the request ended, nothing more is heard of it.
  if (context.request?.ended === true) return NEVER_STARTED;
  const operation = engine.start(op, ...values);
  pending.set(operation, { context, resolve, reject });
  context.request?.operations.add(operation);
  return operation;
}

/** As `startWithCallbacks`, for timers, which have no failure. */
export function startWithCallback(callback: (value: HostValue) => void, op: number, ...values: HostValue[]): number {
  return startWithCallbacks(callback, callback as () => void, op, ...values);
}

/** Gives an operation up. Its promise never settles. */
export function cancel(operation: number): void {
  const entry = pending.get(operation);
  if (entry === undefined) return;
  pending.delete(operation);
  entry.context.request?.operations.delete(operation);
  engine.cancel(operation);
}

/** Gives up everything that a request has under way; returns how much that was. */
export function cancelAll(owner: RequestOwner): number {
  const left = owner.operations.size;
  for (const operation of [...owner.operations]) cancel(operation);
  return left;
}

engine.onComplete = (operation, failed, value) => {
  const entry = pending.get(operation);
  if (entry === undefined) return;
  pending.delete(operation);
  entry.context.request?.operations.delete(operation);
  engine.setContext(entry.context);
  if (failed) entry.reject(toException(value));
  else entry.resolve(value);
};
