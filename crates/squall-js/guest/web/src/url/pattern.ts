// URLPattern.
// https://urlpattern.spec.whatwg.org/#urlpattern-class

import { finishInterface } from "../interface.js";
import * as encoding from "./pattern-encoding.js";
import { COMPONENTS, type Component, type Init, processInit, readInit } from "./pattern-init.js";
import { type Part, parsePattern, type PatternOptions, toPatternString, toRegExpSource } from "./pattern-parts.js";
import { parseConstructorString } from "./pattern-string.js";
import { URL } from "./url.js";
import { usvString } from "../webidl.js";

/**
 * The standard asks for `v`; where the engine lacks it, or does not take `-` and `::` outside of
 * classes, `u` differs only in rare set syntax.
 */
const UNICODE_FLAG = ((): string => {
  try {
    return new RegExp("[a--b]-::", "v").flags;
  } catch {
    return "u";
  }
})();

interface CompiledComponent {
  readonly pattern: string;
  readonly regexp: RegExp;
  readonly names: readonly string[];
  readonly hasRegExpGroups: boolean;
}

const PLAIN = { delimiter: "", prefix: "" };
const HOSTNAME = { delimiter: ".", prefix: "" };
const PATHNAME = { delimiter: "/", prefix: "/" };

function compile(pattern: string, encode: (text: string) => string, shape: Omit<PatternOptions, "ignoreCase">, ignoreCase = false): CompiledComponent {
  const options = { ...shape, ignoreCase };
  const parts = parsePattern(pattern, options, encode);
  const { source, names } = toRegExpSource(parts, options);
  let regexp: RegExp;
  try {
    regexp = new RegExp(source, ignoreCase ? `${UNICODE_FLAG}i` : UNICODE_FLAG);
  } catch (error) {
    throw new TypeError(`Invalid pattern ${JSON.stringify(pattern)}: ${(error as Error).message}`);
  }
  return {
    ...{ pattern: toPatternString(parts, options), regexp, names },
    hasRegExpGroups: parts.some((part: Part) => part.type === "regexp"),
  };
}

const SPECIAL_SCHEMES = ["http", "https", "ws", "wss", "ftp", "file"];

function matchesSpecialScheme(protocol: CompiledComponent): boolean {
  return SPECIAL_SCHEMES.some((scheme) => protocol.regexp.test(scheme));
}

function isIpv6Pattern(pattern: string): boolean {
  return pattern.startsWith("[") || pattern.startsWith("{[") || pattern.startsWith("\\[");
}

type Result = { inputs: unknown[] } & Record<Component, { input: string; groups: Record<string, string | undefined> }>;

export class URLPattern {
  #components: Record<Component, CompiledComponent>;

  constructor(input: unknown = undefined, second: unknown = undefined, third: unknown = undefined) {
    const isText = typeof input === "string" || (input !== null && typeof input !== "object" && typeof input !== "function" && input !== undefined);
    // Two signatures: (input, baseURL, options) and (input, options).
    const secondIsOptions = arguments.length < 3 && (second === undefined || second === null || typeof second === "object" || typeof second === "function");
    const baseUrl = secondIsOptions ? undefined : usvString(second);
    const ignoreCase = readIgnoreCase(secondIsOptions ? second : third);
    let init: Init;
    if (isText) {
      init = parseConstructorString(usvString(input), (protocol) =>
        matchesSpecialScheme(compile(protocol, encoding.canonicalizeProtocol, PLAIN)),
      );
      if (baseUrl === undefined && init.protocol === undefined) {
        throw new TypeError("A relative pattern needs a base URL");
      }
      if (baseUrl !== undefined) init.baseURL = baseUrl;
    } else {
      init = readInit(input);
      if (baseUrl !== undefined) throw new TypeError("A base URL goes with a pattern string, or into the object");
    }
    this.#components = compileAll(processInit(init, true, {}), ignoreCase);
  }

  test(input: unknown = undefined, baseUrl: unknown = undefined): boolean {
    return this.#match(input, baseUrl) !== null;
  }

  exec(input: unknown = undefined, baseUrl: unknown = undefined): Result | null {
    return this.#match(input, baseUrl);
  }

  get protocol(): string {
    return this.#components.protocol.pattern;
  }

  get username(): string {
    return this.#components.username.pattern;
  }

  get password(): string {
    return this.#components.password.pattern;
  }

  get hostname(): string {
    return this.#components.hostname.pattern;
  }

  get port(): string {
    return this.#components.port.pattern;
  }

  get pathname(): string {
    return this.#components.pathname.pattern;
  }

  get search(): string {
    return this.#components.search.pattern;
  }

  get hash(): string {
    return this.#components.hash.pattern;
  }

  get hasRegExpGroups(): boolean {
    return COMPONENTS.some((name) => this.#components[name].hasRegExpGroups);
  }

  // https://urlpattern.spec.whatwg.org/#url-pattern-match
  #match(input: unknown, baseUrl: unknown): Result | null {
    const components = this.#components;
    const base = baseUrl === undefined ? undefined : usvString(baseUrl);
    const isInit = input === undefined || input === null || typeof input === "object" || typeof input === "function";
    const inputs: unknown[] = [];
    let values: Init | null;
    if (isInit) {
      const init = readInit(input);
      if (base !== undefined) throw new TypeError("A base URL goes with a string, or into the object");
      inputs.push(init);
      values = valuesOfInit(init);
    } else {
      const text = usvString(input);
      inputs.push(text);
      if (base !== undefined) inputs.push(base);
      values = valuesOfUrl(text, base);
    }
    if (values === null) return null;
    const result = { inputs } as Result;
    for (const name of COMPONENTS) {
      const component = components[name];
      const value = values[name] ?? "";
      const match = component.regexp.exec(value);
      if (match === null) return null;
      const groups: Record<string, string | undefined> = {};
      component.names.forEach((group, index) => (groups[group] = match[index + 1]));
      result[name] = { input: value, groups };
    }
    return result;
  }
}

finishInterface(URLPattern);

function readIgnoreCase(options: unknown): boolean {
  if (options === undefined || options === null) return false;
  if (typeof options !== "object" && typeof options !== "function") throw new TypeError("The options are an object");
  return Boolean((options as { ignoreCase?: unknown }).ignoreCase);
}

function compileAll(init: Init, ignoreCase: boolean): Record<Component, CompiledComponent> {
  const text = (name: Component): string => init[name] ?? "*";
  const protocol = compile(text("protocol"), encoding.canonicalizeProtocol, PLAIN);
  // A default port is as good as none.
  const isDefaultPort = init.protocol !== undefined && init.port !== undefined && encoding.isSpecialScheme(init.protocol);
  const port = isDefaultPort && /^\d+$/.test(init.port!) ? encoding.canonicalizePort(init.port!, init.protocol) : text("port");
  const hostname = text("hostname");
  const special = matchesSpecialScheme(protocol);
  return {
    protocol,
    username: compile(text("username"), encoding.canonicalizeUsername, PLAIN),
    password: compile(text("password"), encoding.canonicalizePassword, PLAIN),
    hostname: compile(
      hostname,
      isIpv6Pattern(hostname) ? encoding.canonicalizeIpv6Hostname : hostnameEncoder(special || protocol.pattern === "*"),
      HOSTNAME,
    ),
    port: compile(port, (digits) => encoding.canonicalizePort(digits), PLAIN),
    pathname: special
      ? compile(text("pathname"), encoding.canonicalizePathname, PATHNAME, ignoreCase)
      : compile(text("pathname"), encoding.canonicalizeOpaquePathname, PLAIN, ignoreCase),
    search: compile(text("search"), encoding.canonicalizeSearch, PLAIN, ignoreCase),
    hash: compile(text("hash"), encoding.canonicalizeHash, PLAIN, ignoreCase),
  };
}

function hostnameEncoder(special: boolean): (text: string) => string {
  return (text) => encoding.canonicalizeHostname(text, special ? "" : "dummy");
}

function valuesOfInit(init: Init): Init | null {
  try {
    const empty: Init = {};
    for (const name of COMPONENTS) empty[name] = "";
    return processInit(init, false, empty);
  } catch {
    return null;
  }
}

function valuesOfUrl(text: string, base: string | undefined): Init | null {
  const url = URL.parse(text, base);
  if (url === null) return null;
  const { username, password, hostname, port, pathname } = url;
  return {
    ...{ username, password, hostname, port, pathname, protocol: url.protocol.slice(0, -1) },
    ...{ search: url.search.slice(1), hash: url.hash.slice(1) },
  };
}
