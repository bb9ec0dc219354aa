// console: text for the host's log. Every call is one operation, so that lines of requests that
// run at the same time do not mix.
// https://console.spec.whatwg.org/

import { host } from "./host.js";
import { format, inspect, type InspectOptions } from "./inspect.js";
import { LOG, MONOTONIC_CLOCK } from "./ops.js";
import { domString, isObject } from "./webidl.js";

type Level = "debug" | "info" | "warn" | "error";

let indentation = "";
const counts = new Map<string, number>();
const timers = new Map<string, number>();

function write(level: Level, text: string): void {
  host.call(LOG, level, indentation === "" ? text : indentation + text.replaceAll("\n", `\n${indentation}`));
}

function labelOf(label: unknown): string {
  return label === undefined ? "default" : domString(label);
}

function stackHere(above: unknown): string {
  const holder: { stack?: string } = {};
  const capture = (Error as { captureStackTrace?: (target: object, above: unknown) => void }).captureStackTrace;
  capture?.(holder, above);
  // Some engines put a line with the name before the frames.
  return (holder.stack ?? "").replace(/^(?! +at ).*\n/, "").trimEnd();
}

function duration(label: string): string | null {
  const started = timers.get(label);
  if (started === undefined) {
    write("warn", `Timer "${label}" does not exist`);
    return null;
  }
  const milliseconds = (host.call(MONOTONIC_CLOCK) as number) - started;
  if (milliseconds >= 1000) return `${label}: ${(milliseconds / 1000).toFixed(3)}s`;
  return `${label}: ${Number(milliseconds.toFixed(3))}ms`;
}

const members = {
  assert(condition: unknown = false, ...data: unknown[]): void {
    if (condition) return;
    if (typeof data[0] === "string") data[0] = `Assertion failed: ${data[0]}`;
    else data.unshift("Assertion failed");
    write("error", format(data));
  },
  clear(): void {
    indentation = "";
  },
  count(label: unknown = undefined): void {
    const name = labelOf(label);
    const count = (counts.get(name) ?? 0) + 1;
    counts.set(name, count);
    write("info", `${name}: ${count}`);
  },
  countReset(label: unknown = undefined): void {
    const name = labelOf(label);
    if (!counts.delete(name)) write("warn", `Count for "${name}" does not exist`);
  },
  debug(...data: unknown[]): void {
    write("debug", format(data));
  },
  dir(item: unknown = undefined, options: unknown = undefined): void {
    write("info", inspect(item, { customInspect: false, ...(options as Partial<InspectOptions> | undefined) }));
  },
  dirxml(...data: unknown[]): void {
    write("info", format(data));
  },
  error(...data: unknown[]): void {
    write("error", format(data));
  },
  group(...data: unknown[]): void {
    if (data.length > 0) write("info", format(data));
    indentation += "  ";
  },
  groupCollapsed(...data: unknown[]): void {
    members.group(...data);
  },
  groupEnd(): void {
    indentation = indentation.slice(2);
  },
  info(...data: unknown[]): void {
    write("info", format(data));
  },
  log(...data: unknown[]): void {
    write("info", format(data));
  },
  table(data: unknown = undefined, columns: unknown = undefined): void {
    write("info", isObject(data) ? tableOf(data, columns as string[] | undefined) : format([data]));
  },
  time(label: unknown = undefined): void {
    const name = labelOf(label);
    if (timers.has(name)) write("warn", `Timer "${name}" already exists`);
    else timers.set(name, host.call(MONOTONIC_CLOCK) as number);
  },
  timeEnd(label: unknown = undefined): void {
    const name = labelOf(label);
    const text = duration(name);
    timers.delete(name);
    if (text !== null) write("info", text);
  },
  timeLog(label: unknown = undefined, ...data: unknown[]): void {
    const text = duration(labelOf(label));
    if (text !== null) write("info", data.length === 0 ? text : `${text} ${format(data)}`);
  },
  timeStamp(): void {
    // For the time line of a browser's tools.
  },
  trace(...data: unknown[]): void {
    const text = data.length === 0 ? "Trace" : `Trace: ${format(data)}`;
    const stack = stackHere(members.trace);
    write("info", stack === "" ? text : `${text}\n${stack}`);
  },
  warn(...data: unknown[]): void {
    write("warn", format(data));
  },
};

// A namespace object: its prototype is an empty object whose prototype is Object.prototype.
// https://webidl.spec.whatwg.org/#namespace-object
export const console = Object.assign(Object.create({}) as typeof members, members);
Object.defineProperty(console, Symbol.toStringTag, { value: "console", configurable: true });

const INDEX = "(index)";
const VALUES = "Values";

/** A row for each member of the data, a column for each member of the rows. */
function tableOf(data: object, columns: readonly string[] | undefined): string {
  const rows: [index: string, row: unknown][] =
    data instanceof Map
      ? [...(data as Map<unknown, unknown>)].map(([key, value]) => [cell(key), value])
      : data instanceof Set
        ? [...(data as Set<unknown>)].map((value, index) => [`${index}`, value])
        : Object.keys(data).map((key) => [key, (data as Record<string, unknown>)[key]]);
  const names: string[] = [];
  let hasValues = false;
  for (const [, row] of rows) {
    if (!isObject(row)) hasValues = true;
    else if (columns === undefined) for (const key of Object.keys(row)) if (!names.includes(key)) names.push(key);
  }
  if (columns !== undefined) names.push(...columns.map(String));
  const lines = rows.map(([index, row]) => {
    const members = isObject(row) ? (row as Record<string, unknown>) : null;
    const cells = names.map((name) => (members !== null && Object.hasOwn(members, name) ? cell(members[name]) : ""));
    return [index, ...cells, ...(hasValues ? [members === null ? cell(row) : ""] : [])];
  });
  return drawTable([INDEX, ...names, ...(hasValues ? [VALUES] : [])], lines);
}

function cell(value: unknown): string {
  return inspect(value, { depth: isObject(value) && Object.keys(value).length > 2 ? -1 : 0, maxArrayLength: 3 });
}

function drawTable(head: readonly string[], lines: readonly string[][]): string {
  const widths = head.map((name, column) => Math.max(name.length, ...lines.map((line) => line[column]!.length)) + 2);
  const rule = (left: string, middle: string, right: string): string =>
    left + widths.map((width) => "─".repeat(width)).join(middle) + right;
  const row = (cells: readonly string[]): string =>
    `│${cells.map((text, column) => ` ${text}`.padEnd(widths[column]!)).join("│")}│`;
  return [rule("┌", "┬", "┐"), row(head), rule("├", "┼", "┤"), ...lines.map(row), rule("└", "┴", "┘")].join("\n");
}
