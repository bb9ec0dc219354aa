// AbortController and AbortSignal.
// https://dom.spec.whatwg.org/#aborting-ongoing-activities

import { DOMException } from "./errors.js";
import { defineEventHandler, dispatch, Event, EventTarget, setSignalAccess, trusted } from "./events.js";
import { startWithCallback } from "./host.js";
import { finishInterface } from "./interface.js";
import { refuseAtLoad } from "./load.js";
import { SLEEP } from "./ops.js";
import { enforceUnsignedLongLong, requireArguments, sequence } from "./webidl.js";

export type AbortAlgorithm = () => void;

export let isAbortSignal: (value: unknown) => value is AbortSignal;
/** Runs when the signal aborts, before its event; not when it has aborted already. */
export let addAbortAlgorithm: (signal: AbortSignal, algorithm: AbortAlgorithm) => void;
export let removeAbortAlgorithm: (signal: AbortSignal, algorithm: AbortAlgorithm) => void;
/** Aborts a signal; without a reason it is an AbortError. */
export let abortSignal: (signal: AbortSignal, reason: unknown) => void;
/** A signal that nobody has a controller of. */
export let makeSignal: () => AbortSignal;

/** Asks the constructor for an instance, which programs can not. */
let making = false;

const NOT_ABORTED = Symbol("not aborted");

export class AbortSignal extends EventTarget {
  #reason: unknown = NOT_ABORTED;
  #algorithms: Set<AbortAlgorithm> | null = null;
  /** Of a signal made by `any`: the signals it follows, none of which follows another. */
  #sources: Set<AbortSignal> | null = null;
  /** The signals that follow this one. */
  #dependents: Set<AbortSignal> | null = null;

  static {
    isAbortSignal = (value): value is AbortSignal => typeof value === "object" && value !== null && #reason in value;
    addAbortAlgorithm = (signal, algorithm) => {
      if (signal.#reason === NOT_ABORTED) (signal.#algorithms ??= new Set()).add(algorithm);
    };
    removeAbortAlgorithm = (signal, algorithm) => {
      signal.#algorithms?.delete(algorithm);
    };
    makeSignal = () => {
      making = true;
      return new AbortSignal();
    };
    abortSignal = (signal, reason) => {
      if (signal.#reason !== NOT_ABORTED) return;
      signal.#reason = reason === undefined ? abortError() : reason;
      const aborted = [signal];
      for (const dependent of signal.#dependents ?? []) {
        if (dependent.#reason !== NOT_ABORTED) continue;
        dependent.#reason = signal.#reason;
        aborted.push(dependent);
      }
      signal.#dependents = null;
      for (const one of aborted) one.#runAbortSteps();
    };
  }

  constructor() {
    if (!making) throw new TypeError("Illegal constructor");
    making = false;
    super();
  }

  static abort(reason: unknown = undefined): AbortSignal {
    const signal = makeSignal();
    signal.#reason = reason === undefined ? abortError() : reason;
    return signal;
  }

  static timeout(milliseconds: unknown): AbortSignal {
    requireArguments(arguments.length, 1, "AbortSignal.timeout");
    const delay = enforceUnsignedLongLong(milliseconds, "The time of AbortSignal.timeout");
    refuseAtLoad("AbortSignal.timeout");
    const signal = makeSignal();
    startWithCallback(
      () => abortSignal(signal, new DOMException("The operation took too long", "TimeoutError")),
      SLEEP,
      delay,
    );
    return signal;
  }

  // https://dom.spec.whatwg.org/#create-a-dependent-abort-signal
  static any(signals: unknown): AbortSignal {
    requireArguments(arguments.length, 1, "AbortSignal.any");
    const given = sequence(signals, "The argument of AbortSignal.any");
    for (const signal of given) {
      if (!isAbortSignal(signal)) throw new TypeError("AbortSignal.any takes AbortSignals");
    }
    const result = makeSignal();
    for (const signal of given as AbortSignal[]) {
      if (signal.#reason !== NOT_ABORTED) {
        result.#reason = signal.#reason;
        return result;
      }
    }
    result.#sources = new Set();
    for (const signal of given as AbortSignal[]) {
      if (signal.#sources === null) result.#follow(signal);
      else for (const source of signal.#sources) result.#follow(source);
    }
    return result;
  }

  get aborted(): boolean {
    return this.#reason !== NOT_ABORTED;
  }

  get reason(): unknown {
    return this.#reason === NOT_ABORTED ? undefined : this.#reason;
  }

  throwIfAborted(): void {
    if (this.#reason !== NOT_ABORTED) throw this.#reason;
  }

  #follow(source: AbortSignal): void {
    this.#sources!.add(source);
    (source.#dependents ??= new Set()).add(this);
  }

  #runAbortSteps(): void {
    if (this.#sources !== null) {
      for (const source of this.#sources) source.#dependents?.delete(this);
      this.#sources.clear();
    }
    const algorithms = this.#algorithms;
    if (algorithms !== null) {
      this.#algorithms = null;
      for (const algorithm of algorithms) algorithm();
    }
    dispatch(this, trusted(new Event("abort")), this);
  }
}

finishInterface(AbortSignal);
defineEventHandler(AbortSignal.prototype, "abort");

function abortError(): DOMException {
  return new DOMException("This operation was aborted", "AbortError");
}

setSignalAccess({
  isSignal: isAbortSignal,
  isAborted: (signal) => (signal as AbortSignal).aborted,
  onAbort: (signal, algorithm) => addAbortAlgorithm(signal as AbortSignal, algorithm),
});

export class AbortController {
  #signal = makeSignal();

  get signal(): AbortSignal {
    return this.#signal;
  }

  abort(reason: unknown = undefined): void {
    abortSignal(this.#signal, reason);
  }
}

finishInterface(AbortController);
