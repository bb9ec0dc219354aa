// MIME types, parsed and serialised.
// https://mimesniff.spec.whatwg.org/#parsing-a-mime-type

export interface MimeType {
  /** "type/subtype" in lower case. */
  essence: string;
  parameters: Map<string, string>;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const QUOTABLE = /^[\t\x20-\x7e\x80-\xff]*$/;

export function parseMimeType(text: string): MimeType | null {
  text = text.replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  const semicolon = text.indexOf(";");
  const essence = (semicolon < 0 ? text : text.slice(0, semicolon)).replace(/[\t\n\r ]+$/, "");
  const slash = essence.indexOf("/");
  if (slash < 0 || !TOKEN.test(essence.slice(0, slash)) || !TOKEN.test(essence.slice(slash + 1))) return null;
  const parameters = new Map<string, string>();
  let position = semicolon < 0 ? text.length : semicolon;
  while (position < text.length) {
    position++; // the semicolon
    while (position < text.length && "\t\n\r ".includes(text[position]!)) position++;
    const nameStart = position;
    while (position < text.length && text[position] !== ";" && text[position] !== "=") position++;
    const name = text.slice(nameStart, position).toLowerCase();
    if (position >= text.length) break;
    if (text[position] === ";") continue;
    position++;
    let value: string;
    if (text[position] === '"') {
      const quoted = readQuoted(text, position);
      value = quoted.value;
      position = quoted.end;
      while (position < text.length && text[position] !== ";") position++;
    } else {
      const valueStart = position;
      while (position < text.length && text[position] !== ";") position++;
      value = text.slice(valueStart, position).replace(/[\t\n\r ]+$/, "");
      if (value === "") continue;
    }
    if (TOKEN.test(name) && QUOTABLE.test(value) && !parameters.has(name)) parameters.set(name, value);
  }
  return { essence: essence.toLowerCase(), parameters };
}

function readQuoted(text: string, start: number): { value: string; end: number } {
  let value = "";
  let position = start + 1;
  while (position < text.length) {
    const character = text[position++]!;
    if (character === '"') break;
    if (character === "\\") {
      value += position < text.length ? text[position++] : "\\";
    } else {
      value += character;
    }
  }
  return { value, end: position };
}

export function serializeMimeType(type: MimeType): string {
  let text = type.essence;
  for (const [name, value] of type.parameters) {
    const quoted = TOKEN.test(value) ? value : `"${value.replace(/["\\]/g, "\\$&")}"`;
    text += `;${name}=${quoted}`;
  }
  return text;
}

/** The type that a Content-Type header with all its values means, or null. */
// https://fetch.spec.whatwg.org/#concept-header-extract-mime-type
export function extractMimeType(header: string | null): MimeType | null {
  if (header === null) return null;
  let charset: string | undefined;
  let essence: string | null = null;
  let found: MimeType | null = null;
  for (const value of splitOutsideQuotes(header)) {
    const type = parseMimeType(value);
    if (type === null || type.essence === "*/*") continue;
    found = type;
    if (type.essence !== essence) {
      charset = type.parameters.get("charset");
      essence = type.essence;
    } else if (!type.parameters.has("charset") && charset !== undefined) {
      type.parameters.set("charset", charset);
    }
  }
  return found;
}

function splitOutsideQuotes(header: string): string[] {
  if (!header.includes(",")) return [header];
  const values: string[] = [];
  let start = 0;
  for (let position = 0; position <= header.length; position++) {
    if (header[position] === '"') {
      position = readQuoted(header, position).end - 1;
    } else if (position === header.length || header[position] === ",") {
      values.push(header.slice(start, position));
      start = position + 1;
    }
  }
  if (start <= header.length && start > 0 && values.length > 0) return values;
  return [...values, header.slice(start)];
}
