// env: variables, secrets and bindings. One object for each instance, filled when it is first
// looked at, so that a request that needs nothing of it asks nothing of the host. At load the
// host names the secrets without their values, and reading one is an error.

import { fetchThrough } from "./fetch/fetch.js";
import { type HostValue, host } from "./host.js";
import { isLoading } from "./load.js";
import { ENV } from "./ops.js";

type Entry = [kind: string, name: string, value: HostValue];
type Values = Record<string | symbol, unknown>;

/** A binding that answers fetch: the assets or another function. */
class Fetcher {
  #binding: string;

  constructor(binding: string) {
    this.#binding = binding;
  }

  fetch(input: unknown, init: unknown = undefined): Promise<unknown> {
    return fetchThrough(this.#binding, input, init);
  }
}

function valueOf(kind: string, name: string, value: HostValue): unknown {
  switch (kind) {
    case "json":
      return JSON.parse(value as string);
    case "assets":
    case "service":
      return new Fetcher(name);
    default:
      return value;
  }
}

/** An object that is filled by the host at first sight, and again after load. */
function lazyObject(accepts: (kind: string) => boolean): object {
  let filledAtLoad = false;
  let filled = false;
  const secrets = new Set<string | symbol>();
  const ready = (target: Values): Values => {
    if (filled && filledAtLoad === isLoading()) return target;
    if (filled) for (const key of Reflect.ownKeys(target)) delete target[key];
    secrets.clear();
    for (const [kind, name, value] of host.call(ENV) as Entry[]) {
      if (!accepts(kind)) continue;
      if (kind === "secret" && isLoading()) secrets.add(name);
      else target[name] = valueOf(kind, name, value);
    }
    filled = true;
    filledAtLoad = isLoading();
    return target;
  };
  return new Proxy<Values>(
    {},
    {
      get(target, key) {
        ready(target);
        if (secrets.has(key)) {
          throw new Error(
            `The secret ${String(key)} can not be read at top level: top-level code runs once, when the ` +
              "function is deployed, and what it leaves behind is kept. Read it inside a handler.",
          );
        }
        return target[key];
      },
      has: (target, key) => key in ready(target) || secrets.has(key),
      ownKeys: (target) => Reflect.ownKeys(ready(target)),
      getOwnPropertyDescriptor: (target, key) => Reflect.getOwnPropertyDescriptor(ready(target), key),
      set: (target, key, value) => Reflect.set(ready(target), key, value),
      defineProperty: (target, key, attributes) => Reflect.defineProperty(ready(target), key, attributes),
      deleteProperty: (target, key) => Reflect.deleteProperty(ready(target), key),
    },
  );
}

/** What handlers receive, and what `cloudflare:workers` exports. */
export const env = lazyObject(() => true);
/** process.env: strings only. */
export const processEnv = lazyObject((kind) => kind === "text" || kind === "secret");
