// The grammar of pattern strings: text to tokens to parts, and parts to a regular expression and
// back to a string.
// https://urlpattern.spec.whatwg.org/#pattern-strings

type TokenType =
  | "open"
  | "close"
  | "regexp"
  | "name"
  | "char"
  | "escaped-char"
  | "other-modifier"
  | "asterisk"
  | "end"
  | "invalid-char";

export interface Token {
  readonly type: TokenType;
  readonly index: number;
  readonly value: string;
}

const NAME_START = /^[\p{ID_Start}$_]$/u;
const NAME_PART = /^[\p{ID_Continue}$\u200c\u200d]$/u;
const SINGLE: Record<string, TokenType> = {
  "*": "asterisk",
  "+": "other-modifier",
  "?": "other-modifier",
  "{": "open",
  "}": "close",
};

/** Tokens of a pattern. A lenient tokenizer makes tokens of mistakes, a strict one throws. */
// https://urlpattern.spec.whatwg.org/#tokenize
export function tokenize(input: string, lenient: boolean): Token[] {
  const tokens: Token[] = [];
  let position = 0;
  const characterAt = (index: number): string => {
    const code = input.codePointAt(index);
    return code === undefined ? "" : String.fromCodePoint(code);
  };
  const push = (type: TokenType, end: number, from: number, to: number): void => {
    tokens.push({ type, index: position, value: input.slice(from, to) });
    position = end;
  };
  const mistake = (message: string, end: number, from: number): void => {
    if (!lenient) throw new TypeError(`Invalid pattern ${JSON.stringify(input)}: ${message}`);
    push("invalid-char", end, from, end);
  };
  while (position < input.length) {
    const character = characterAt(position);
    const next = position + character.length;
    const single = SINGLE[character];
    if (single !== undefined) {
      push(single, next, position, next);
    } else if (character === "\\") {
      const escaped = characterAt(next);
      if (escaped === "") mistake("nothing follows the backslash", next, position);
      else push("escaped-char", next + escaped.length, next, next + escaped.length);
    } else if (character === ":") {
      let end = next;
      for (;;) {
        const part = characterAt(end);
        if (part === "" || !(end === next ? NAME_START : NAME_PART).test(part)) break;
        end += part.length;
      }
      if (end === next) mistake("a name is expected behind the colon", next, position);
      else push("name", end, next, end);
    } else if (character === "(") {
      const end = endOfGroup(input, next);
      if (end < 0) mistake("a group is not well-formed", next, position);
      else push("regexp", end + 1, next, end);
    } else {
      push("char", next, position, next);
    }
  }
  tokens.push({ type: "end", index: input.length, value: "" });
  return tokens;
}

/** Index of the parenthesis that ends a regular expression, or -1. */
function endOfGroup(input: string, start: number): number {
  let depth = 1;
  for (let index = start; index < input.length; index++) {
    const character = input[index]!;
    if (character > "\x7f" || (index === start && character === "?")) return -1;
    if (character === "\\") {
      index++;
      if (index === input.length || input[index]! > "\x7f") return -1;
    } else if (character === ")") {
      depth--;
      if (depth === 0) return index === start ? -1 : index;
    } else if (character === "(") {
      depth++;
      // Groups inside must not capture.
      if (input[index + 1] !== "?") return -1;
    }
  }
  return -1;
}

export type PartType = "fixed-text" | "regexp" | "segment-wildcard" | "full-wildcard";
export type Modifier = "" | "?" | "*" | "+";

export interface Part {
  readonly type: PartType;
  value: string;
  readonly modifier: Modifier;
  readonly name: string;
  readonly prefix: string;
  readonly suffix: string;
}

/** How the pieces of a component are separated. */
export interface PatternOptions {
  readonly delimiter: string;
  readonly prefix: string;
  readonly ignoreCase: boolean;
}

const FULL_WILDCARD = ".*";

export function escapeRegExp(text: string): string {
  return text.replace(/[.+*?^${}()[\]|/\\]/g, "\\$&");
}

export function segmentWildcard(options: PatternOptions): string {
  return `[^${escapeRegExp(options.delimiter)}]+?`;
}

/** Parts of a pattern; fixed text goes through `encode`, which may throw. */
// https://urlpattern.spec.whatwg.org/#parse-a-pattern-string
export function parsePattern(input: string, options: PatternOptions, encode: (text: string) => string): Part[] {
  const tokens = tokenize(input, false);
  const segment = segmentWildcard(options);
  const parts: Part[] = [];
  let pendingFixed = "";
  let index = 0;
  let nextName = 0;

  const take = (type: TokenType): Token | null => {
    const token = tokens[index]!;
    if (token.type !== type) return null;
    index++;
    return token;
  };
  const takeNameless = (name: Token | null): Token | null => {
    const token = take("regexp");
    return name === null && token === null ? take("asterisk") : token;
  };
  const takeModifier = (): Modifier => ((take("other-modifier") ?? take("asterisk"))?.value ?? "") as Modifier;
  const takeText = (): string => {
    let text = "";
    for (;;) {
      const token = take("char") ?? take("escaped-char");
      if (token === null) return text;
      text += token.value;
    }
  };
  const flush = (): void => {
    if (pendingFixed === "") return;
    const value = encode(pendingFixed);
    pendingFixed = "";
    parts.push({ type: "fixed-text", value, modifier: "", name: "", prefix: "", suffix: "" });
  };
  const add = (prefix: string, name: Token | null, nameless: Token | null, suffix: string, modifier: Modifier): void => {
    if (name === null && nameless === null && modifier === "") {
      pendingFixed += prefix;
      return;
    }
    flush();
    if (name === null && nameless === null) {
      if (prefix === "") return;
      parts.push({ type: "fixed-text", value: encode(prefix), modifier, name: "", prefix: "", suffix: "" });
      return;
    }
    let value = nameless === null ? segment : nameless.type === "asterisk" ? FULL_WILDCARD : nameless.value;
    let type: PartType = "regexp";
    if (value === segment) {
      type = "segment-wildcard";
      value = "";
    } else if (value === FULL_WILDCARD) {
      type = "full-wildcard";
      value = "";
    }
    const label = name !== null ? name.value : `${nextName++}`;
    if (parts.some((part) => part.name === label)) throw new TypeError(`The group ${label} is named twice`);
    parts.push({ type, value, modifier, name: label, prefix: encode(prefix), suffix: encode(suffix) });
  };

  while (index < tokens.length) {
    const character = take("char");
    const name = take("name");
    const nameless = takeNameless(name);
    if (name !== null || nameless !== null) {
      let prefix = character?.value ?? "";
      if (prefix !== "" && prefix !== options.prefix) {
        pendingFixed += prefix;
        prefix = "";
      }
      flush();
      add(prefix, name, nameless, "", takeModifier());
      continue;
    }
    const fixed = character ?? take("escaped-char");
    if (fixed !== null) {
      pendingFixed += fixed.value;
      continue;
    }
    if (take("open") !== null) {
      const prefix = takeText();
      const innerName = take("name");
      const innerNameless = takeNameless(innerName);
      const suffix = takeText();
      if (take("close") === null) throw new TypeError(`Invalid pattern ${JSON.stringify(input)}: a brace is not closed`);
      add(prefix, innerName, innerNameless, suffix, takeModifier());
      continue;
    }
    flush();
    if (take("end") === null) {
      throw new TypeError(`Invalid pattern ${JSON.stringify(input)}: unexpected ${JSON.stringify(tokens[index]!.value)}`);
    }
  }
  return parts;
}

/** The source of a regular expression and the names of its groups. */
// https://urlpattern.spec.whatwg.org/#generate-a-regular-expression-and-name-list
export function toRegExpSource(parts: readonly Part[], options: PatternOptions): { source: string; names: string[] } {
  let source = "^";
  const names: string[] = [];
  for (const part of parts) {
    const { modifier } = part;
    if (part.type === "fixed-text") {
      const text = escapeRegExp(part.value);
      source += modifier === "" ? text : `(?:${text})${modifier}`;
      continue;
    }
    names.push(part.name);
    let value = part.value;
    // Engines stumble over the class that excludes nothing.
    if (part.type === "segment-wildcard") value = options.delimiter === "" ? "[\\s\\S]+?" : segmentWildcard(options);
    else if (part.type === "full-wildcard") value = FULL_WILDCARD;
    const prefix = escapeRegExp(part.prefix);
    const suffix = escapeRegExp(part.suffix);
    if (prefix === "" && suffix === "") {
      source += modifier === "" || modifier === "?" ? `(${value})${modifier}` : `((?:${value})${modifier})`;
    } else if (modifier === "" || modifier === "?") {
      source += `(?:${prefix}(${value})${suffix})${modifier}`;
    } else {
      const again = modifier === "*" ? "?" : "";
      source += `(?:${prefix}((?:${value})(?:${suffix}${prefix}(?:${value}))*)${suffix})${again}`;
    }
  }
  return { source: `${source}$`, names };
}

function escapePattern(text: string): string {
  return text.replace(/[+*?:{}()\\]/g, "\\$&");
}

/** The pattern string of parts, in its shortest usual form. */
// https://urlpattern.spec.whatwg.org/#generate-a-pattern-string
export function toPatternString(parts: readonly Part[], options: PatternOptions): string {
  let text = "";
  parts.forEach((part, index) => {
    const previous = parts[index - 1];
    const next = parts[index + 1];
    if (part.type === "fixed-text") {
      const escaped = escapePattern(part.value);
      text += part.modifier === "" ? escaped : `{${escaped}}${part.modifier}`;
      return;
    }
    const hasCustomName = !/^\d/.test(part.name);
    let needsGrouping = part.suffix !== "" || (part.prefix !== "" && part.prefix !== options.prefix);
    if (
      !needsGrouping &&
      hasCustomName &&
      part.type === "segment-wildcard" &&
      part.modifier === "" &&
      next !== undefined &&
      next.prefix === "" &&
      next.suffix === ""
    ) {
      needsGrouping =
        next.type === "fixed-text" ? NAME_PART.test(firstCharacter(next.value)) : /^\d/.test(next.name);
    }
    if (
      !needsGrouping &&
      part.prefix === "" &&
      previous !== undefined &&
      previous.type === "fixed-text" &&
      previous.value !== "" &&
      lastCharacter(previous.value) === options.prefix
    ) {
      needsGrouping = true;
    }
    if (needsGrouping) text += "{";
    text += escapePattern(part.prefix);
    if (hasCustomName) text += `:${part.name}`;
    if (part.type === "regexp") {
      text += `(${part.value})`;
    } else if (part.type === "segment-wildcard") {
      if (!hasCustomName) text += `(${segmentWildcard(options)})`;
    } else {
      const plainStar =
        !hasCustomName &&
        (previous === undefined ||
          previous.type === "fixed-text" ||
          previous.modifier !== "" ||
          needsGrouping ||
          part.prefix !== "");
      text += plainStar ? "*" : `(${FULL_WILDCARD})`;
    }
    if (
      part.type === "segment-wildcard" &&
      hasCustomName &&
      part.suffix !== "" &&
      NAME_PART.test(firstCharacter(part.suffix))
    ) {
      text += "\\";
    }
    text += escapePattern(part.suffix);
    if (needsGrouping) text += "}";
    text += part.modifier;
  });
  return text;
}

function firstCharacter(text: string): string {
  return String.fromCodePoint(text.codePointAt(0) ?? 0);
}

function lastCharacter(text: string): string {
  return text.slice(-1);
}
