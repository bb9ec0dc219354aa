// Written by `squall types`, which overwrites it. It goes with "lib": ["webworker"] in tsconfig.json.

/** What handlers find in their environment. */
interface Env {
  GREETING: string;
}

/** Answers requests in process: static assets, or another function. */
interface Fetcher {
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
}

/** `caches`: responses that a program keeps by itself, for all functions of its app. */
interface CacheStorage {
  readonly default: Cache;
}

/** The third argument of handlers. */
interface ExecutionContext {
  /** Keeps the invocation open until the promise has settled, even after the response. */
  waitUntil(promise: Promise<unknown>): void;
  /** Answers from the static assets if the handler throws. */
  passThroughOnException(): void;
  readonly props: object;
}

/** The first argument of `scheduled`. */
interface ScheduledController {
  /** The schedule as it was written; empty when a person invoked the handler. */
  readonly cron: string;
  /** The time that was meant, in milliseconds since 1970. */
  readonly scheduledTime: number;
  readonly type: "scheduled";
  noRetry(): void;
}

/** What a module exports as its default: `export default { ... } satisfies ExportedHandler<Env>`. */
interface ExportedHandler<E = Env> {
  fetch?(request: Request, env: E, ctx: ExecutionContext): Response | Promise<Response>;
  scheduled?(controller: ScheduledController, env: E, ctx: ExecutionContext): void | Promise<void>;
}

// Handlers that are registered with addEventListener.

interface FetchEvent {
  passThroughOnException(): void;
}

interface ScheduledEvent extends ExtendableEvent {
  readonly cron: string;
  readonly scheduledTime: number;
}

declare function addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;
declare function addEventListener(type: "scheduled", listener: (event: ScheduledEvent) => void): void;

declare module "cloudflare:workers" {
  export const env: Env;
  export abstract class WorkerEntrypoint<E = Env> {
    protected ctx: ExecutionContext;
    protected env: E;
    constructor(ctx: ExecutionContext, env: E);
  }
}

// Files that are imported as text.

declare module "*.txt" {
  const text: string;
  export default text;
}

declare module "*.html" {
  const text: string;
  export default text;
}

declare module "*.sql" {
  const text: string;
  export default text;
}
