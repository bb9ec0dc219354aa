// Runs before testharness.js, in the realm of the web layer. Any host can use it.

globalThis.GLOBAL = { isWindow: () => false, isWorker: () => true, isShadowRealm: () => false };
// Tests look for Node's internals when there is a process.
delete globalThis.process;

// common/sab.js gets at SharedArrayBuffer by way of WebAssembly, which is not offered.
globalThis.WebAssembly = {
  Memory: class {
    constructor({ shared }) {
      if (!shared) throw new Error("There is no WebAssembly");
      this.buffer = new SharedArrayBuffer(0);
    }
  },
};

globalThis.__wptStart = (url) => {
  const { href, origin, protocol, host, hostname, port, pathname, search, hash } = new URL(url);
  globalThis.location = { href, origin, protocol, host, hostname, port, pathname, search, hash, toString: () => href };
};

/** After testharness.js. `report` gets the results of all subtests, and the harness's own status. */
globalThis.__wptSetup = (report) => {
  // idlharness asks what kind of scope this is; testharness must not, or it would use postMessage.
  globalThis.DedicatedWorkerGlobalScope = class DedicatedWorkerGlobalScope {
    static [Symbol.hasInstance](value) {
      return value === globalThis;
    }
  };
  setup({ explicit_done: true, explicit_timeout: true });
  add_completion_callback((tests, status) => {
    const results = tests.map((test) => ({ name: test.name, passed: test.status === 0, message: test.message }));
    report({ results, status: status.status, message: status.message });
  });
};
