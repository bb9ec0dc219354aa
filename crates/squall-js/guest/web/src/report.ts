// Exceptions that nobody catches: the global scope's `error` event first, then the log.
// https://html.spec.whatwg.org/#report-an-exception

import { host } from "./host.js";
import { LOG } from "./ops.js";

/** Offers an exception to the global scope's listeners; true when one of them took it. */
let offerToScope: (error: unknown) => boolean = () => false;

export function setScopeReporter(offer: (error: unknown) => boolean): void {
  offerToScope = offer;
}

let reporting = false;

export function reportException(error: unknown): void {
  // A listener that throws while it is told of an exception is not told of its own.
  if (!reporting) {
    reporting = true;
    try {
      if (offerToScope(error)) return;
    } finally {
      reporting = false;
    }
  }
  logError("uncaught", error);
}

/** name, message and stack of anything that was thrown. */
export function describeError(error: unknown): [name: string, message: string, stack: string] {
  try {
    if (typeof error === "object" && error !== null) {
      const { name, message, stack } = error as { name?: unknown; message?: unknown; stack?: unknown };
      if (message !== undefined) {
        return [String(name ?? "Error"), String(message), typeof stack === "string" ? stack : ""];
      }
    }
    return ["Error", String(error), ""];
  } catch {
    return ["Error", "something was thrown that can not be shown", ""];
  }
}

export function logError(where: string, error: unknown): void {
  const [name, message, stack] = describeError(error);
  host.call(LOG, "error", `${where}: ${name}: ${message}${stack === "" ? "" : `\n${stack}`}`);
}
