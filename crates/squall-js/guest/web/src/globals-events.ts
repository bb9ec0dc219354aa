// Events, and the global scope as a target of them.

import { AbortController, AbortSignal } from "./abort.js";
import * as events from "./events.js";
import { scope, scopeMembers } from "./handlers.js";
import { defineGlobal, defineGlobalMember } from "./interface.js";
import { describeError, reportException, setScopeReporter } from "./report.js";
import { requireArguments } from "./webidl.js";

const { CustomEvent, ErrorEvent, Event, EventTarget, MessageEvent, ProgressEvent, PromiseRejectionEvent } = events;
const interfaces = {
  ...{ AbortController, AbortSignal },
  ...{ CustomEvent, ErrorEvent, Event, EventTarget, MessageEvent, ProgressEvent, PromiseRejectionEvent },
};
for (const [name, value] of Object.entries(interfaces)) defineGlobal(name, value);

const functions = {
  ...scopeMembers,
  reportError(error: unknown): void {
    requireArguments(arguments.length, 1, "reportError");
    reportException(error);
  },
};
for (const [name, value] of Object.entries(functions)) defineGlobalMember(name, value);

for (const type of ["error", "rejectionhandled", "unhandledrejection"]) {
  events.defineEventHandler(globalThis, type, () => scope);
}

setScopeReporter((error) => {
  const [, message] = describeError(error);
  const event = new ErrorEvent("error", { message, error, cancelable: true });
  return !events.dispatch(scope, events.trusted(event), globalThis);
});
