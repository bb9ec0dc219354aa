// Runs before testharness.js, in the realm of the web layer; any host can use it. Results are
// written to the log, as one line that begins with "#wpt ".

globalThis.GLOBAL = { isWindow: () => false, isWorker: () => true, isShadowRealm: () => false };
// Tests look for node's internals when there is a process.
delete globalThis.process;

globalThis.__wptStart = (url) => {
  const { href, origin, protocol, host, hostname, port, pathname, search, hash } = new URL(url);
  globalThis.location = { href, origin, protocol, host, hostname, port, pathname, search, hash, toString: () => href };
};

/** After testharness.js. */
globalThis.__wptSetup = () => {
  // idlharness asks what kind of scope this is; testharness must not, or it would use postMessage.
  globalThis.DedicatedWorkerGlobalScope = class DedicatedWorkerGlobalScope {
    static [Symbol.hasInstance](value) {
      return value === globalThis;
    }
  };
  setup({ explicit_done: true, explicit_timeout: true });
  add_completion_callback((tests, status) => {
    const results = tests.map((test) => ({ name: test.name, passed: test.status === 0, message: test.message }));
    console.log("%s", `#wpt ${JSON.stringify({ results, status: status.status, message: status.message })}`);
  });
};
