// What a function exports, or registers with addEventListener, found once at load.

import { env } from "./env.js";
import { dispatch, dispatchAs, Event, EventTarget, trusted } from "./events.js";
import { finishInterface } from "./interface.js";
import type { RequestState } from "./request-state.js";

const NO_PROPS: object = Object.freeze({});

/** The third argument of a handler. */
export class ExecutionContext {
  #state: RequestState;
  readonly props = NO_PROPS;

  constructor(state: RequestState) {
    this.#state = state;
  }

  waitUntil(promise: unknown): void {
    this.#state.waitUntil(promise);
  }

  passThroughOnException(): void {
    this.#state.passThrough = true;
  }
}

type Handler = (argument: unknown, environment: object, context: ExecutionContext) => unknown;
type HandlerObject = Record<string, Handler | undefined>;
type HandlerClass = new (context: ExecutionContext, environment: object) => Record<string, unknown>;

const KINDS = ["fetch", "scheduled", "queue"];

let handlerObject: HandlerObject | null = null;
let handlerClass: HandlerClass | null = null;

/** The global scope's listeners; among them those of service-worker style functions. */
export const scope = new EventTarget();
const listened = new Set<string>();

/** Base class of functions that are written as one. */
export class WorkerEntrypoint {
  protected ctx: ExecutionContext;
  protected env: object;

  constructor(context: ExecutionContext, environment: object) {
    this.ctx = context;
    this.env = environment;
  }
}

/** Finds the handlers; throws when there are none. */
export function adoptExports(exports: Record<string, unknown>): void {
  const exported = exports["default"];
  if (typeof exported === "function") {
    const prototype = exported.prototype as Record<string, unknown> | undefined;
    if (KINDS.some((kind) => typeof prototype?.[kind] === "function")) {
      handlerClass = exported as unknown as HandlerClass;
      return;
    }
  }
  if ((typeof exported === "object" && exported !== null) || typeof exported === "function") {
    if (KINDS.some((kind) => typeof (exported as HandlerObject)[kind] === "function")) {
      handlerObject = exported as HandlerObject;
      buildRouter(exported);
      return;
    }
  }
  if (KINDS.some((kind) => listened.has(kind))) return;
  throw new TypeError(
    "This function has no handler: export default { fetch(request, env, ctx) { ... } }, or a class with " +
      'such a method, or call addEventListener("fetch", ...) at top level',
  );
}

/**
 * Routers such as hono's build their matcher when the first request comes, which for an instance
 * of its own is every request. Asking them for a route that does not matter has it in the
 * snapshot. They take no routes after that, which they would not after a first request either.
 */
function buildRouter(exported: object): void {
  const { router } = exported as { router?: { match?: unknown; add?: unknown } | null };
  if (typeof router?.match !== "function" || typeof router.add !== "function") return;
  try {
    router.match("GET", "/");
  } catch {
    // It is another kind of router, or one that will say at the request what is wrong with it.
  }
}

/** The result of the handler for this kind of event. */
export function invokeHandler(kind: string, argument: unknown, state: RequestState): unknown {
  const context = new ExecutionContext(state);
  if (handlerObject !== null) {
    const handler = handlerObject[kind];
    if (typeof handler === "function") return handler.call(handlerObject, argument, env, context);
  } else if (handlerClass !== null) {
    const instance = new handlerClass(context, env);
    const handler = instance[kind];
    if (typeof handler === "function") return handler.call(instance, argument, env, context);
  }
  if (listened.has(kind)) return dispatchEvent(kind, argument, state);
  throw new TypeError(`This function has no handler for ${kind} events`);
}

class ExtendableEvent extends Event {
  #state: RequestState | null;

  constructor(type: string, init: unknown = undefined, state: RequestState | null = null) {
    super(type, init as never);
    this.#state = state;
  }

  waitUntil(promise: unknown): void {
    this.#state?.waitUntil(promise);
  }

  passThroughOnException(): void {
    if (this.#state !== null) this.#state.passThrough = true;
  }
}

let responseOf: (event: FetchEvent) => unknown;
const NO_RESPONSE = Symbol("no response");

class FetchEvent extends ExtendableEvent {
  #request: unknown;
  #response: unknown = NO_RESPONSE;

  static {
    responseOf = (event) => event.#response;
  }

  constructor(type: string, init: { request: unknown }, state: RequestState | null = null) {
    super(type, init, state);
    this.#request = init.request;
  }

  get request(): unknown {
    return this.#request;
  }

  respondWith(response: unknown): void {
    if (this.#response !== NO_RESPONSE) throw new TypeError("respondWith was called already");
    this.#response = response;
    this.stopImmediatePropagation();
  }
}

class ScheduledEvent extends ExtendableEvent {
  readonly cron: string;
  readonly scheduledTime: number;

  constructor(type: string, init: { cron: string; scheduledTime: number }, state: RequestState | null = null) {
    super(type, init, state);
    this.cron = init.cron;
    this.scheduledTime = init.scheduledTime;
  }
}

finishInterface(ExtendableEvent);
finishInterface(FetchEvent);

function dispatchEvent(kind: string, argument: unknown, state: RequestState): unknown {
  if (kind !== "fetch") {
    const init = argument as { cron: string; scheduledTime: number };
    dispatch(scope, trusted(new ScheduledEvent(kind, init, state)), globalThis);
    return undefined;
  }
  const event = new FetchEvent(kind, { request: argument }, state);
  dispatch(scope, trusted(event), globalThis);
  const response = responseOf(event);
  if (response === NO_RESPONSE) throw new TypeError("No listener called event.respondWith");
  return response;
}

/** What the global scope has of an EventTarget. */
export const scopeMembers = {
  addEventListener(type: unknown, listener: unknown, options: unknown = undefined): void {
    listened.add(`${type}`);
    scope.addEventListener(type as never, listener as never, options as never);
  },
  removeEventListener(type: unknown, listener: unknown, options: unknown = undefined): void {
    scope.removeEventListener(type as never, listener as never, options as never);
  },
  dispatchEvent(event: unknown): boolean {
    return dispatchAs(scope, event, globalThis);
  },
};
export const eventInterfaces = { ExtendableEvent, FetchEvent, ScheduledEvent };
