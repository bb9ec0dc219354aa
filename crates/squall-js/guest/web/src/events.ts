// Event and EventTarget. There is no tree: the path of an event is its target.
// https://dom.spec.whatwg.org/#events

import { DOMException } from "./errors.js";
import { host } from "./host.js";
import { defineConstants, finishInterface, setLength } from "./interface.js";
import { MONOTONIC_CLOCK } from "./ops.js";
import { reportException } from "./report.js";
import { dictionary, domString, double, isObject, requireArguments } from "./webidl.js";

const NONE = 0;
const AT_TARGET = 2;

/** Runs the listeners of `target` that are there now; `shown` is what they see as the target. */
export let dispatch: (target: EventTarget, event: Event, shown: object) => boolean;
/** An event of the runtime itself. */
export let trusted: <T extends Event>(event: T) => T;
let setCurrent: (event: Event, target: object | null, phase: number) => void;
let begin: (event: Event, target: object) => void;
let finish: (event: Event) => boolean;
let isStopped: (event: Event) => boolean;
let setPassive: (event: Event, passive: boolean) => void;
let untrust: (event: Event) => void;
let isEvent: (value: object) => value is Event;

/** One function for all events, so that their property descriptors are alike. */
const isTrustedDescriptor = {
  get: Object.getOwnPropertyDescriptor(
    {
      get isTrusted(): boolean {
        return trustOf(this as Event);
      },
    },
    "isTrusted",
  )!.get!,
  enumerable: true,
  configurable: false,
};
let trustOf: (event: Event) => boolean;

export class Event {
  #type: string;
  #target: object | null = null;
  #currentTarget: object | null = null;
  #phase = NONE;
  #bubbles = false;
  #cancelable = false;
  #composed = false;
  #canceled = false;
  #stopped = false;
  #stoppedAtOnce = false;
  #passive = false;
  #dispatching = false;
  #trusted = false;
  /** Read when somebody asks; the clock stands still within a turn. */
  #timeStamp = -1;

  static {
    isEvent = (value): value is Event => #type in value;
    trustOf = (event) => event.#trusted;
    trusted = (event) => {
      event.#trusted = true;
      return event;
    };
    untrust = (event) => {
      event.#trusted = false;
    };
    setCurrent = (event, target, phase) => {
      event.#currentTarget = target;
      event.#phase = phase;
    };
    begin = (event, target) => {
      if (event.#dispatching) throw invalidState("This event is being dispatched already");
      event.#dispatching = true;
      event.#target = target;
    };
    finish = (event) => {
      event.#dispatching = event.#stopped = event.#stoppedAtOnce = false;
      event.#currentTarget = null;
      event.#phase = NONE;
      return !event.#canceled;
    };
    isStopped = (event) => event.#stoppedAtOnce;
    setPassive = (event, passive) => {
      event.#passive = passive;
    };
  }

  constructor(type: unknown, init: unknown = undefined) {
    requireArguments(arguments.length, 1, "Event");
    this.#type = domString(type);
    if (init !== undefined) {
      const options = dictionary(init, "The event's settings");
      if (options !== null) {
        this.#bubbles = Boolean(options["bubbles"]);
        this.#cancelable = Boolean(options["cancelable"]);
        this.#composed = Boolean(options["composed"]);
      }
    }
    Object.defineProperty(this, "isTrusted", isTrustedDescriptor);
  }

  get type(): string {
    return this.#type;
  }

  get target(): object | null {
    return this.#target;
  }

  get srcElement(): object | null {
    return this.#target;
  }

  get currentTarget(): object | null {
    return this.#currentTarget;
  }

  composedPath(): object[] {
    return this.#currentTarget === null ? [] : [this.#currentTarget];
  }

  get eventPhase(): number {
    return this.#phase;
  }

  stopPropagation(): void {
    this.#stopped = true;
  }

  get cancelBubble(): boolean {
    return this.#stopped;
  }

  set cancelBubble(value: unknown) {
    if (value) this.#stopped = true;
  }

  stopImmediatePropagation(): void {
    this.#stopped = this.#stoppedAtOnce = true;
  }

  get bubbles(): boolean {
    return this.#bubbles;
  }

  get cancelable(): boolean {
    return this.#cancelable;
  }

  get returnValue(): boolean {
    return !this.#canceled;
  }

  set returnValue(value: unknown) {
    if (!value) this.preventDefault();
  }

  preventDefault(): void {
    if (this.#cancelable && !this.#passive) this.#canceled = true;
  }

  get defaultPrevented(): boolean {
    return this.#canceled;
  }

  get composed(): boolean {
    return this.#composed;
  }

  get timeStamp(): number {
    if (this.#timeStamp < 0) this.#timeStamp = host.call(MONOTONIC_CLOCK) as number;
    return this.#timeStamp;
  }

  initEvent(type: unknown, bubbles: unknown = false, cancelable: unknown = false): void {
    requireArguments(arguments.length, 1, "initEvent");
    if (this.#dispatching) return;
    this.#type = domString(type);
    this.#bubbles = Boolean(bubbles);
    this.#cancelable = Boolean(cancelable);
    this.#target = null;
    this.#trusted = this.#stopped = this.#stoppedAtOnce = this.#canceled = false;
  }
}

finishInterface(Event);
defineConstants(Event, { NONE, CAPTURING_PHASE: 1, AT_TARGET, BUBBLING_PHASE: 3 });

function invalidState(message: string): unknown {
  return new DOMException(message, "InvalidStateError");
}

/** What listeners need of signals, which are targets themselves. */
interface SignalAccess {
  isSignal(value: unknown): boolean;
  isAborted(signal: unknown): boolean;
  onAbort(signal: unknown, algorithm: () => void): void;
}
let signals: SignalAccess;

/** Called by abort.ts, which builds on this module. */
export function setSignalAccess(access: SignalAccess): void {
  signals = access;
}

type Callback = ((event: Event) => unknown) | { handleEvent(event: Event): unknown };

interface Listener {
  callback: Callback;
  readonly capture: boolean;
  readonly once: boolean;
  readonly passive: boolean;
  removed: boolean;
  /** Set by an attribute like `onabort`: its result counts. */
  readonly isHandler: boolean;
}

let handlerOf: (target: EventTarget, type: string) => Callback | null;
let setHandler: (target: EventTarget, type: string, callback: unknown) => void;

export class EventTarget {
  /** By type. A removal replaces the array, so that a dispatch goes on with the one it has. */
  #listeners: Map<string, Listener[]> | null = null;

  static {
    dispatch = (target, event, shown) => {
      begin(event, shown);
      const listeners = target.#listeners?.get(event.type);
      if (listeners !== undefined) {
        const length = listeners.length;
        setCurrent(event, shown, AT_TARGET);
        // Capturing listeners come first, and most events have none.
        let capturing = false;
        for (let index = 0; index < length; index++) if (listeners[index]!.capture) capturing = true;
        if (capturing) target.#run(listeners, length, event, shown, true);
        target.#run(listeners, length, event, shown, false);
      }
      return finish(event);
    };
    handlerOf = (target, type) => {
      const listener = target.#listeners?.get(type)?.find((candidate) => candidate.isHandler);
      return listener === undefined ? null : listener.callback;
    };
    setHandler = (target, type, callback) => {
      const listeners = target.#listeners?.get(type);
      const existing = listeners?.find((candidate) => candidate.isHandler);
      if (!isObject(callback)) {
        if (existing !== undefined) target.#remove(type, existing);
      } else if (existing !== undefined) {
        existing.callback = callback as Callback;
      } else {
        const flags = { capture: false, once: false, passive: false, removed: false, isHandler: true };
        target.#add(type, { callback: callback as Callback, ...flags });
      }
    };
  }

  addEventListener(type: unknown, callback: unknown, options: unknown = undefined): void {
    requireArguments(arguments.length, 2, "addEventListener");
    const name = domString(type);
    if (callback !== null && callback !== undefined && !isObject(callback)) {
      throw new TypeError("A listener is a function or an object with handleEvent");
    }
    let capture = false;
    let once = false;
    let passive = false;
    let signal: unknown = undefined;
    if (isObject(options)) {
      const given = options as Record<string, unknown>;
      capture = Boolean(given["capture"]);
      once = Boolean(given["once"]);
      passive = Boolean(given["passive"]);
      signal = given["signal"];
      if (signal !== undefined && !signals.isSignal(signal)) throw new TypeError("signal is no AbortSignal");
    } else {
      capture = Boolean(options);
    }
    if (signal !== undefined && signals.isAborted(signal)) return;
    if (callback === null || callback === undefined) return;
    const known = this.#listeners?.get(name);
    if (known?.some((other) => other.callback === callback && other.capture === capture && !other.isHandler)) return;
    const listener: Listener = {
      ...{ callback: callback as Callback, capture, once, passive, removed: false, isHandler: false },
    };
    this.#add(name, listener);
    if (signal !== undefined) signals.onAbort(signal, () => this.#remove(name, listener));
  }

  removeEventListener(type: unknown, callback: unknown, options: unknown = undefined): void {
    requireArguments(arguments.length, 2, "removeEventListener");
    const name = domString(type);
    if (callback !== null && callback !== undefined && !isObject(callback)) {
      throw new TypeError("A listener is a function or an object with handleEvent");
    }
    const capture = isObject(options) ? Boolean((options as { capture?: unknown }).capture) : Boolean(options);
    const listener = this.#listeners
      ?.get(name)
      ?.find((other) => other.callback === callback && other.capture === capture && !other.isHandler);
    if (listener !== undefined) this.#remove(name, listener);
  }

  dispatchEvent(event: unknown): boolean {
    requireArguments(arguments.length, 1, "dispatchEvent");
    return dispatchAs(this, event, this);
  }

  #add(type: string, listener: Listener): void {
    this.#listeners ??= new Map();
    const listeners = this.#listeners.get(type);
    if (listeners === undefined) this.#listeners.set(type, [listener]);
    else listeners.push(listener);
  }

  #remove(type: string, listener: Listener): void {
    listener.removed = true;
    const left = this.#listeners!.get(type)?.filter((other) => other !== listener);
    if (left === undefined || left.length === 0) this.#listeners!.delete(type);
    else this.#listeners!.set(type, left);
  }

  #run(listeners: readonly Listener[], length: number, event: Event, shown: object, capture: boolean): void {
    for (let index = 0; index < length; index++) {
      const listener = listeners[index]!;
      if (listener.removed || listener.capture !== capture) continue;
      if (isStopped(event)) return;
      if (listener.once) this.#remove(event.type, listener);
      setPassive(event, listener.passive);
      try {
        callListener(listener, event, shown);
      } catch (error) {
        reportException(error);
      }
      setPassive(event, false);
    }
  }
}

finishInterface(EventTarget);
setLength(EventTarget.prototype, "addEventListener", 2);

/** dispatchEvent of a target that stands for another object, such as the global scope. */
export function dispatchAs(target: EventTarget, event: unknown, shown: object): boolean {
  if (!isObject(event) || !isEvent(event)) throw new TypeError("dispatchEvent needs an Event");
  untrust(event);
  return dispatch(target, event, shown);
}

function callListener(listener: Listener, event: Event, shown: object): void {
  const { callback } = listener;
  if (listener.isHandler) {
    if (typeof callback !== "function") return;
    if (shown === globalThis && event instanceof ErrorEvent && event.type === "error") {
      const handler = callback as (...values: unknown[]) => unknown;
      const result = handler.call(shown, event.message, event.filename, event.lineno, event.colno, event.error);
      if (result === true) event.preventDefault();
    } else if (callback.call(shown as never, event) === false) {
      event.preventDefault();
    }
  } else if (typeof callback === "function") {
    callback.call(shown as never, event);
  } else {
    const { handleEvent } = callback;
    if (typeof handleEvent !== "function") throw new TypeError("The listener has no handleEvent");
    handleEvent.call(callback, event);
  }
}

/** An attribute like `onabort`. `targetOf` finds the listeners behind `this`. */
export function defineEventHandler(
  owner: object,
  type: string,
  targetOf: (owner: unknown) => EventTarget = (target) => target as EventTarget,
): void {
  const name = `on${type}`;
  const accessor = {
    get [name](): Callback | null {
      return handlerOf(targetOf(this), type);
    },
    set [name](callback: unknown) {
      setHandler(targetOf(this), type, callback);
    },
  };
  Object.defineProperty(owner, name, Object.getOwnPropertyDescriptor(accessor, name)!);
}

export class CustomEvent extends Event {
  #detail: unknown = null;

  constructor(type: unknown, init: unknown = undefined) {
    requireArguments(arguments.length, 1, "CustomEvent");
    super(type, init);
    const detail = (init as { detail?: unknown } | null | undefined)?.detail;
    if (detail !== undefined) this.#detail = detail;
  }

  get detail(): unknown {
    return this.#detail;
  }

  initCustomEvent(type: unknown, bubbles: unknown = false, cancelable: unknown = false, detail: unknown = null): void {
    requireArguments(arguments.length, 1, "initCustomEvent");
    if (this.eventPhase !== NONE) return;
    this.initEvent(type, bubbles, cancelable);
    this.#detail = detail;
  }
}

export class ErrorEvent extends Event {
  #message = "";
  #filename = "";
  #lineno = 0;
  #colno = 0;
  #error: unknown = undefined;

  constructor(type: unknown, init: unknown = undefined) {
    requireArguments(arguments.length, 1, "ErrorEvent");
    super(type, init);
    const options = dictionary(init, "The event's settings");
    if (options === null) return;
    if (options["message"] !== undefined) this.#message = domString(options["message"]);
    if (options["filename"] !== undefined) this.#filename = domString(options["filename"]);
    this.#lineno = Number(options["lineno"]) >>> 0;
    this.#colno = Number(options["colno"]) >>> 0;
    this.#error = options["error"];
  }

  get message(): string {
    return this.#message;
  }

  get filename(): string {
    return this.#filename;
  }

  get lineno(): number {
    return this.#lineno;
  }

  get colno(): number {
    return this.#colno;
  }

  get error(): unknown {
    return this.#error;
  }
}

export class PromiseRejectionEvent extends Event {
  #promise: object;
  #reason: unknown;

  constructor(type: unknown, init: unknown) {
    requireArguments(arguments.length, 2, "PromiseRejectionEvent");
    super(type, init);
    const options = dictionary(init, "The event's settings");
    if (!isObject(options?.["promise"])) throw new TypeError("The event needs a promise");
    this.#promise = options["promise"];
    this.#reason = options["reason"];
  }

  get promise(): object {
    return this.#promise;
  }

  get reason(): unknown {
    return this.#reason;
  }
}

export class MessageEvent extends Event {
  #data: unknown = null;
  #origin = "";
  #lastEventId = "";

  constructor(type: unknown, init: unknown = undefined) {
    requireArguments(arguments.length, 1, "MessageEvent");
    super(type, init);
    const options = dictionary(init, "The event's settings");
    if (options === null) return;
    if (options["data"] !== undefined) this.#data = options["data"];
    if (options["origin"] !== undefined) this.#origin = domString(options["origin"]);
    if (options["lastEventId"] !== undefined) this.#lastEventId = domString(options["lastEventId"]);
  }

  get data(): unknown {
    return this.#data;
  }

  get origin(): string {
    return this.#origin;
  }

  get lastEventId(): string {
    return this.#lastEventId;
  }

  /** Messages come from nowhere here. */
  get source(): null {
    this.#origin;
    return null;
  }

  get ports(): readonly unknown[] {
    return NO_PORTS;
  }
}

const NO_PORTS: readonly unknown[] = Object.freeze([]);

// https://xhr.spec.whatwg.org/#interface-progressevent
export class ProgressEvent extends Event {
  #lengthComputable = false;
  #loaded = 0;
  #total = 0;

  constructor(type: unknown, init: unknown = undefined) {
    requireArguments(arguments.length, 1, "ProgressEvent");
    super(type, init);
    const options = dictionary(init, "The event's settings");
    if (options === null) return;
    this.#lengthComputable = Boolean(options["lengthComputable"]);
    if (options["loaded"] !== undefined) this.#loaded = double(options["loaded"], "loaded");
    if (options["total"] !== undefined) this.#total = double(options["total"], "total");
  }

  get lengthComputable(): boolean {
    return this.#lengthComputable;
  }

  get loaded(): number {
    return this.#loaded;
  }

  get total(): number {
    return this.#total;
  }
}

for (const constructor of [CustomEvent, ErrorEvent, PromiseRejectionEvent, MessageEvent, ProgressEvent]) {
  finishInterface(constructor);
}
