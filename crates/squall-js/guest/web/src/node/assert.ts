// node:assert.

import { host } from "../host.js";
import { inspect } from "../inspect.js";
import { isDeepEqual } from "./deep-equal.js";

interface AssertionDetails {
  message?: string | undefined;
  actual?: unknown;
  expected?: unknown;
  operator?: string;
}

class AssertionError extends Error {
  readonly code = "ERR_ASSERTION";
  readonly generatedMessage: boolean;
  readonly actual: unknown;
  readonly expected: unknown;
  readonly operator: string;

  constructor(details: AssertionDetails) {
    const { actual, expected, operator = "fail" } = details;
    super(details.message ?? `${inspect(actual)} ${operator} ${inspect(expected)}`);
    this.name = "AssertionError";
    this.generatedMessage = details.message === undefined;
    this.actual = actual;
    this.expected = expected;
    this.operator = operator;
  }
}

/** What a caller may give in place of our message: an error is thrown as it is. */
type Message = string | Error | undefined;

function fail(message: Message, details: AssertionDetails): never {
  if (message instanceof Error) throw message;
  throw new AssertionError({ ...details, message: message ?? details.message });
}

function ok(value: unknown, message: Message = undefined): void {
  if (value) return;
  const text = arguments.length === 0 ? "No value argument passed to `assert.ok()`" : undefined;
  fail(message, {
    ...{ message: text ?? "The expression evaluated to a falsy value", actual: value, expected: true, operator: "==" },
  });
}

type Comparison = (actual: unknown, expected: unknown, message?: Message) => void;

function comparison(operator: string, what: string, holds: Relation): Comparison {
  return (actual, expected, message) => {
    if (holds(actual, expected)) return;
    const text = `Expected values to be ${what}:\n\n${inspect(actual)}\n\nand\n\n${inspect(expected)}`;
    fail(message, { message: text, actual, expected, operator });
  };
}

type Relation = (actual: unknown, expected: unknown) => boolean;
const looselyEqual: Relation = (actual, expected) =>
  actual == expected || (actual !== actual && expected !== expected);
const looselyDeepEqual: Relation = (actual, expected) => isDeepEqual(actual, expected, false);
const strictlyDeepEqual: Relation = (actual, expected) => isDeepEqual(actual, expected, true);
const not =
  (relation: Relation): Relation =>
  (actual, expected) =>
    !relation(actual, expected);

const equal = comparison("equal", "loosely equal", looselyEqual);
const notEqual = comparison("notEqual", "not loosely equal", not(looselyEqual));
const strictEqual = comparison("strictEqual", "strictly equal", Object.is);
const notStrictEqual = comparison("notStrictEqual", "not strictly equal", not(Object.is));
const deepEqual = comparison("deepEqual", "loosely deep-equal", looselyDeepEqual);
const notDeepEqual = comparison("notDeepEqual", "not loosely deep-equal", not(looselyDeepEqual));
const deepStrictEqual = comparison("deepStrictEqual", "strictly deep-equal", strictlyDeepEqual);
const notDeepStrictEqual = comparison("notDeepStrictEqual", "not strictly deep-equal", not(strictlyDeepEqual));

/** A class, a pattern for the message, a function that decides, or an object of members. */
type Expected = (new (...values: never[]) => unknown) | RegExp | ((error: unknown) => boolean) | object | undefined;

function checkError(error: unknown, expected: Expected, message: Message, operator: string): void {
  if (expected === undefined) return;
  if (expected instanceof RegExp) {
    if (expected.test(String(error))) return;
    fail(message, { message: `The error ${inspect(error)} does not match ${inspect(expected)}`, actual: error, expected, operator });
  }
  if (typeof expected !== "function") return checkMembers(error, expected, message, operator);
  const { prototype } = expected as { prototype?: unknown };
  if (prototype !== undefined && error instanceof (expected as new () => unknown)) return;
  // A class that the error is no instance of lets the error through; a function decides.
  if (prototype instanceof Error || expected === Error) throw error;
  if ((expected as (error: unknown) => boolean).call({}, error) === true) return;
  fail(message, { message: "The validation function did not return true", actual: error, expected, operator });
}

function checkMembers(error: unknown, expected: object, message: Message, operator: string): void {
  const keys = expected instanceof Error ? ["name", "message", ...Object.keys(expected)] : Object.keys(expected);
  for (const key of keys) {
    const actualMember = (error as Record<string, unknown> | null)?.[key];
    const wanted = (expected as Record<string, unknown>)[key];
    const matches = wanted instanceof RegExp && typeof actualMember === "string" ? wanted.test(actualMember) : isDeepEqual(actualMember, wanted, true);
    if (matches) continue;
    const text = `The error's ${key} is ${inspect(actualMember)}, not ${inspect(wanted)}`;
    fail(message, { message: text, actual: error, expected, operator });
  }
}

function throws(callback: () => unknown, expected: Expected | string = undefined, message: Message = undefined): void {
  if (typeof callback !== "function") throw new TypeError("assert.throws needs a function");
  const text = typeof expected === "string" ? expected : message;
  try {
    callback();
  } catch (error) {
    if (typeof expected !== "string") checkError(error, expected, message, "throws");
    return;
  }
  fail(text, { message: "Missing expected exception", expected, operator: "throws" });
}

async function rejects(
  promise: Promise<unknown> | (() => Promise<unknown>),
  expected: Expected | string = undefined,
  message: Message = undefined,
): Promise<void> {
  const text = typeof expected === "string" ? expected : message;
  const pending = typeof promise === "function" ? promise() : promise;
  try {
    await pending;
  } catch (error) {
    if (typeof expected !== "string") checkError(error, expected, message, "rejects");
    return;
  }
  fail(text, { message: "Missing expected rejection", expected, operator: "rejects" });
}

function doesNotThrow(callback: () => unknown, _expected: unknown = undefined, message: Message = undefined): void {
  try {
    callback();
  } catch (error) {
    fail(message, { message: `Got unwanted exception: ${String(error)}`, actual: error, operator: "doesNotThrow" });
  }
}

async function doesNotReject(
  promise: Promise<unknown> | (() => Promise<unknown>),
  _expected: unknown = undefined,
  message: Message = undefined,
): Promise<void> {
  try {
    await (typeof promise === "function" ? promise() : promise);
  } catch (error) {
    fail(message, { message: `Got unwanted rejection: ${String(error)}`, actual: error, operator: "doesNotReject" });
  }
}

function match(text: unknown, pattern: RegExp, message: Message = undefined): void {
  if (typeof text === "string" && pattern.test(text)) return;
  const reason = `The input ${inspect(text)} does not match ${inspect(pattern)}`;
  fail(message, { message: reason, actual: text, expected: pattern, operator: "match" });
}

function doesNotMatch(text: unknown, pattern: RegExp, message: Message = undefined): void {
  if (typeof text === "string" && !pattern.test(text)) return;
  const reason = `The input ${inspect(text)} matches ${inspect(pattern)}`;
  fail(message, { message: reason, actual: text, expected: pattern, operator: "doesNotMatch" });
}

function ifError(value: unknown): void {
  if (value === null || value === undefined) return;
  const text = value instanceof Error ? value.message : inspect(value);
  fail(undefined, { message: `ifError got unwanted exception: ${text}`, actual: value, expected: null, operator: "ifError" });
}

const common = {
  ...{ AssertionError, ok, throws, rejects, doesNotThrow, doesNotReject, match, doesNotMatch, ifError },
  ...{ strictEqual, notStrictEqual, deepStrictEqual, notDeepStrictEqual },
  fail: (message: Message = "Failed"): never => fail(message, { operator: "fail" }),
};
const loose = { ...common, equal, notEqual, deepEqual, notDeepEqual };
const strict = {
  ...common,
  ...{ equal: strictEqual, notEqual: notStrictEqual, deepEqual: deepStrictEqual, notDeepEqual: notDeepStrictEqual },
};

function callable<T extends object>(members: T): typeof ok & T {
  const assert = (value: unknown, message: Message = undefined): void => ok(value, message);
  return Object.assign(assert, members);
}

const strictAssert = Object.assign(callable(strict), { strict: null as unknown });
strictAssert.strict = strictAssert;
export const assert = Object.assign(callable(loose), { strict: strictAssert });
host.registerModule("node:assert", { ...assert, default: assert });
host.registerModule("node:assert/strict", { ...strictAssert, default: strictAssert });
