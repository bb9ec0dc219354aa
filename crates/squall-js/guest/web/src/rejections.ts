// Promises that were rejected and that nobody handles. The engine tells of a rejection at once;
// a handler that is attached within the next few turns takes it back.

import { dispatch, PromiseRejectionEvent, trusted } from "./events.js";
import { scope } from "./handlers.js";
import { host } from "./host.js";
import { logError } from "./report.js";

/** Enough for handlers that are attached behind a few awaits of settled promises. */
const TURNS_OF_GRACE = 10;

const unhandled = new Map<Promise<unknown>, unknown>();
let checking = false;

host.onRejection = (promise, reason, handled) => {
  if (handled) {
    unhandled.delete(promise);
    return;
  }
  unhandled.set(promise, reason);
  if (!checking) {
    checking = true;
    void check();
  }
};

async function check(): Promise<void> {
  for (let turn = 0; turn < TURNS_OF_GRACE; turn++) await null;
  checking = false;
  const rejections = [...unhandled];
  unhandled.clear();
  for (const [promise, reason] of rejections) {
    const event = new PromiseRejectionEvent("unhandledrejection", { promise, reason, cancelable: true });
    if (dispatch(scope, trusted(event), globalThis)) logError("unhandled rejection", reason);
  }
}
