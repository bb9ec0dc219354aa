// Whether top-level code is running: it runs once, at deploy, and what it leaves behind is
// copied for every instance. So it can not reach the world, and must not learn a secret or
// draw a random number that all instances would share.

let loading = true;

/** Called when the function's module has been evaluated. */
export function endLoad(): void {
  loading = false;
}

export function isLoading(): boolean {
  return loading;
}

export function refuseAtLoad(what: string): void {
  if (!loading) return;
  throw new Error(
    `${what} can not be used at top level: top-level code runs once, when the function is deployed. ` +
      "Call it inside a handler.",
  );
}
