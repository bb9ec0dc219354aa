// A pattern that is written as one string, cut into components.
// https://urlpattern.spec.whatwg.org/#constructor-string-parsing

import type { Component, Init } from "./pattern-init.js";
import { type Token, tokenize } from "./pattern-parts.js";

type State = "init" | "authority" | Component | "done";

class ConstructorStringParser {
  readonly #input: string;
  readonly #tokens: Token[];
  readonly #matchesSpecial: (protocol: string) => boolean;
  readonly #result: Init = {};
  #state: State = "init";
  #componentStart = 0;
  #index = 0;
  #increment = 1;
  #groupDepth = 0;
  #bracketDepth = 0;
  #special = false;

  constructor(input: string, matchesSpecial: (protocol: string) => boolean) {
    this.#input = input;
    this.#tokens = tokenize(input, true);
    this.#matchesSpecial = matchesSpecial;
  }

  parse(): Init {
    for (; this.#index < this.#tokens.length; this.#index += this.#increment) {
      this.#increment = 1;
      const token = this.#tokens[this.#index]!;
      if (token.type === "end") {
        if (this.#state === "init") {
          this.#rewindTo();
          if (this.#isHashPrefix()) this.#change("hash", 1);
          else if (this.#isSearchPrefix()) this.#change("search", 1);
          else this.#change("pathname", 0);
          continue;
        }
        if (this.#state === "authority") {
          this.#rewindTo();
          this.#state = "hostname";
          this.#increment = 0;
          continue;
        }
        this.#change("done", 0);
        break;
      }
      if (token.type === "open") {
        this.#groupDepth++;
        continue;
      }
      if (this.#groupDepth > 0) {
        if (token.type !== "close") continue;
        this.#groupDepth--;
      }
      this.#step();
    }
    if (this.#result.hostname !== undefined && this.#result.port === undefined) this.#result.port = "";
    return this.#result;
  }

  #step(): void {
    switch (this.#state) {
      case "init":
        if (this.#isChar(this.#index, ":")) this.#rewindAs("protocol");
        break;
      case "protocol":
        if (this.#isChar(this.#index, ":")) this.#endProtocol();
        break;
      case "authority":
        if (this.#isChar(this.#index, "@")) this.#rewindAs("username");
        else if (this.#isPathStart() || this.#isSearchPrefix() || this.#isHashPrefix()) this.#rewindAs("hostname");
        break;
      case "username":
        if (this.#isChar(this.#index, ":")) this.#change("password", 1);
        else if (this.#isChar(this.#index, "@")) this.#change("hostname", 1);
        break;
      case "password":
        if (this.#isChar(this.#index, "@")) this.#change("hostname", 1);
        break;
      case "hostname":
        if (this.#isChar(this.#index, "[")) this.#bracketDepth++;
        else if (this.#isChar(this.#index, "]")) this.#bracketDepth--;
        else if (this.#isChar(this.#index, ":") && this.#bracketDepth === 0) this.#change("port", 1);
        else this.#endHost();
        break;
      case "port":
        this.#endHost();
        break;
      case "pathname":
        if (this.#isSearchPrefix()) this.#change("search", 1);
        else if (this.#isHashPrefix()) this.#change("hash", 1);
        break;
      case "search":
        if (this.#isHashPrefix()) this.#change("hash", 1);
        break;
    }
  }

  #endProtocol(): void {
    this.#special = this.#matchesSpecial(this.#componentText());
    let next: State = "pathname";
    let skip = 1;
    if (this.#isChar(this.#index + 1, "/") && this.#isChar(this.#index + 2, "/")) {
      next = "authority";
      skip = 3;
    } else if (this.#special) {
      next = "authority";
    }
    this.#change(next, skip);
  }

  #endHost(): void {
    if (this.#isPathStart()) this.#change("pathname", 0);
    else if (this.#isSearchPrefix()) this.#change("search", 1);
    else if (this.#isHashPrefix()) this.#change("hash", 1);
  }

  #change(next: State, skip: number): void {
    const state = this.#state;
    if (state !== "init" && state !== "authority" && state !== "done") this.#result[state] = this.#componentText();
    if (state !== "init" && next !== "done") {
      const beforePath = ["protocol", "authority", "username", "password"].includes(state);
      if (beforePath && ["port", "pathname", "search", "hash"].includes(next)) this.#result.hostname ??= "";
      const beforeSearch = beforePath || state === "hostname" || state === "port";
      if (beforeSearch && (next === "search" || next === "hash")) this.#result.pathname ??= this.#special ? "/" : "";
      if ((beforeSearch || state === "pathname") && next === "hash") this.#result.search ??= "";
    }
    this.#state = next;
    this.#index += skip;
    this.#componentStart = this.#index;
    this.#increment = 0;
  }

  #rewindTo(): void {
    this.#index = this.#componentStart;
    this.#increment = 0;
  }

  #rewindAs(state: State): void {
    this.#rewindTo();
    this.#state = state;
  }

  #componentText(): string {
    const start = this.#safeToken(this.#componentStart).index;
    return this.#input.slice(start, this.#safeToken(this.#index).index);
  }

  #safeToken(index: number): Token {
    return this.#tokens[index] ?? this.#tokens[this.#tokens.length - 1]!;
  }

  /** A character that stands for itself: unmarked, escaped, or where the grammar was broken. */
  #isChar(index: number, value: string): boolean {
    const token = this.#safeToken(index);
    return (
      token.value === value &&
      (token.type === "char" || token.type === "escaped-char" || token.type === "invalid-char")
    );
  }

  #isPathStart(): boolean {
    return this.#isChar(this.#index, "/");
  }

  #isHashPrefix(): boolean {
    return this.#isChar(this.#index, "#");
  }

  /** A question mark, unless it is the modifier of what precedes it. */
  #isSearchPrefix(): boolean {
    if (this.#isChar(this.#index, "?")) return true;
    if (this.#tokens[this.#index]!.value !== "?") return false;
    const previous = this.#tokens[this.#index - 1];
    return previous === undefined || !["name", "regexp", "close", "asterisk"].includes(previous.type);
  }
}

/** `matchesSpecial` says whether a protocol pattern matches a special scheme. */
export function parseConstructorString(input: string, matchesSpecial: (protocol: string) => boolean): Init {
  return new ConstructorStringParser(input, matchesSpecial).parse();
}
