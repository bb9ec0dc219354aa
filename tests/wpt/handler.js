// The function that runs a file of the tests, in the instance of the request that names it. What
// comes from the copy of the tests is bundled with it: nothing can be evaluated from a string.

import { harness, prelude } from "./harness.js";

/** `tests` has a function for each file, which runs its scripts. */
export function makeHandler(tests) {
  return {
    async fetch(request) {
      const { file, url, timeoutMs } = await request.json();
      const { promise, resolve } = Promise.withResolvers();
      try {
        prelude.call(globalThis);
        globalThis.__wptStart(url);
        harness.call(globalThis);
        globalThis.__wptSetup(resolve);
        tests[file].call(globalThis);
        globalThis.done();
      } catch (error) {
        resolve({ results: [], status: 1, message: `${error?.name}: ${error?.message}\n${error?.stack}` });
      }
      // The harness's own function: what has not finished fails.
      setTimeout(() => globalThis.timeout?.(), timeoutMs);
      return Response.json(await promise);
    },
  };
}
