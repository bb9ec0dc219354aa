// What the layer knows of a request that is running. It is also the context of its tasks, so a
// request that stores nothing in AsyncLocalStorage needs no further object.

import { AbortController, type AbortSignal } from "./abort.js";
import { DOMException } from "./errors.js";
import { cancelAll, type Context, host, type HostValue, type RequestOwner, type Timer } from "./host.js";
import { END, HEED_CLIENT } from "./ops.js";
import { logError } from "./report.js";
import { setCurrentRequestUrl } from "./url/url.js";

const requests = new Map<number, RequestState>();

export class RequestState implements RequestOwner, Context {
  readonly id: number;
  /** The URL it came with; "" for events without one. */
  readonly url: string;
  /** waitUntil promises and the body under way: the request ends when nothing is left. */
  outstanding = 0;
  answered = false;
  ended = false;
  passThrough = false;
  /** Stops the response body when the client goes. */
  stopBody: ((reason: unknown) => void) | null = null;
  #operations: Set<number> | null = null;
  #timers: Map<number, Timer> | null = null;
  #controller: AbortController | null = null;

  constructor(id: number, url: string) {
    this.id = id;
    this.url = url;
  }

  // The two members of Context; on the prototype, so that no instance refers to itself.
  get request(): RequestState {
    return this;
  }

  get locals(): null {
    return null;
  }

  get operations(): Set<number> {
    return (this.#operations ??= new Set());
  }

  get timers(): Map<number, Timer> {
    return (this.#timers ??= new Map());
  }

  get signal(): AbortSignal {
    if (this.#controller === null) {
      this.#controller = new AbortController();
      host.call(HEED_CLIENT, this.id);
    }
    return this.#controller.signal;
  }

  /** Ends everything that is left; returns how many operations that were. */
  cancelOperations(): number {
    return this.#operations === null ? 0 : cancelAll(this);
  }

  /** The client has gone. */
  abort(): void {
    const reason = new DOMException("The client has gone away", "AbortError");
    // What listens to the signal may still look at the body.
    (this.#controller ??= new AbortController()).abort(reason);
    this.stopBody?.(reason);
  }

  waitUntil(promise: unknown): void {
    this.outstanding++;
    Promise.resolve(promise).then(
      () => this.settle(),
      (error: unknown) => {
        logError("waitUntil", error);
        this.settle();
      },
    );
  }

  settle(): void {
    this.outstanding--;
    this.endIfDone();
  }

  endIfDone(): void {
    if (this.answered && this.outstanding === 0 && !this.ended) this.end();
  }

  end(): void {
    host.call(END, this.id, this.close());
  }

  /** Nothing more happens for this request; returns how many operations were left. */
  close(): number {
    this.ended = true;
    requests.delete(this.id);
    return this.cancelOperations();
  }
}

/** Requests whose client may go before they have ended. */
export function register(state: RequestState): void {
  requests.set(state.id, state);
}

export function requestWithId(id: HostValue): RequestState | undefined {
  return requests.get(id as number);
}

setCurrentRequestUrl(() => {
  const context = host.getContext() as Context | undefined;
  return (context?.request as RequestState | null | undefined)?.url ?? null;
});
