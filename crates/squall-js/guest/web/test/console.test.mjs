// The text of values is compared with what Node.js writes.

import assert from "node:assert/strict";
import test from "node:test";
import util from "node:util";
import vm from "node:vm";
import { makeWorld } from "./host.mjs";

const world = makeWorld();

/** What console.log writes within, and what node's format makes of the same source. */
function check(source) {
  world.logs.length = 0;
  world.run(`console.log(${source})`);
  assert.equal(world.logs[0][1], util.format(...vm.runInThisContext(`[${source}]`)), source);
}

test("primitives", () => {
  for (const source of ["1", "-0", "'a'", "null, undefined, true", "10n", "Symbol('x')", "['it\\'s', 'a\"\\'b', '\\n\\x01']"]) {
    check(source);
  }
});

test("objects and arrays", () => {
  for (const source of [
    ...["{}", "[]", "{ a: 1, 'b-c': 2, [Symbol('d')]: 3 }", "[1, , 3, , ,]", "[[[[[]]]]]", "{ a: { b: { c: { d: 1 } } } }"],
    ...["Object.create(null)", "new (class A { x = 1 })()", "new (class A extends Map {})([[1, 2]])", "{ get a() { return 1 }, set b(v) {} }"],
    ...["[1, 2, 3, 4, 5, 6, 7]", "Array.from({ length: 120 }, (_, i) => i)", "Array(20).fill('abc')", "[1.5, 2, 300]"],
    ...["{ a: 'x'.repeat(30), b: 'y'.repeat(30), c: 'z'.repeat(30) }", "[{ a: 1, b: { c: [1, 2, 3] } }, { a: 2 }]"],
    ...["(() => { const a = { n: 1 }; a.self = a; a.list = [a]; return a; })()"],
  ]) {
    check(source);
  }
});

test("built-in kinds", () => {
  for (const source of [
    ...["new Map([[{ a: 1 }, 'b']])", "new Set([1, 'a'])", "new Date(0)", "/x/gi", "new Uint8Array(3)", "new ArrayBuffer(2)"],
    ...["function f() {}", "() => {}", "class A {}", "class B extends Array {}", "new Number(3)", "new String('ab')", "new WeakMap()"],
    ...["async () => {}", "function* g() {}", "[function named() {}]", "Object(Symbol('x'))"],
  ]) {
    check(source);
  }
});

test("directives", () => {
  for (const source of [
    ...["'%s %s', 'a', 1", "'%d|%i|%f', '42.5', '42.5', '42.5'", "'%j', { a: 1 }", "'%o', [1]", "'%O', { a: 1 }", "'%c.', 'css'"],
    ...["'100%', 1", "'%%', 1", "'%x', 1", "'%s'", "'a', 'b', { c: 1 }", "'%s', { a: { b: 1 } }", "'%s', Symbol('q')", "'%d', 5n"],
  ]) {
    check(source);
  }
});

test("tables, groups, counts and times", () => {
  world.logs.length = 0;
  world.run(`console.table([{ a: 1 }, { b: "x" }]);
    console.group("g"); console.warn("in\\nside"); console.groupEnd(); console.error("out");
    console.count(); console.count(); console.countReset("no"); console.assert(false, "%s!", "bad"); console.time("t"); console.timeEnd("t");`);
  const texts = world.logs.map(([level, text]) => `${level} ${text}`);
  assert.equal(texts[0].split("\n")[3], "│ 0       │ 1 │     │");
  assert.deepEqual(texts.slice(1, 8), [
    ...["info g", "warn   in\n  side", "error out", "info default: 1", "info default: 2", 'warn Count for "no" does not exist'],
    "error Assertion failed: bad!",
  ]);
  assert.match(texts[8], /^info t: [\d.]+ms$/);
});

test("a trace begins where it was called", () => {
  world.logs.length = 0;
  world.run("(function inner() { console.trace('here'); })()");
  assert.match(world.logs[0][1], /^Trace: here\n {4}at inner /);
});

test("interfaces show their attributes, errors their stack", () => {
  world.logs.length = 0;
  world.run(`console.log(new Request("http://a/", { headers: { b: "c" } })); console.log(new TypeError("x", { cause: 1 }))`);
  assert.match(world.logs[0][1], /^Request \{\n {2}method: 'GET',\n {2}url: 'http:\/\/a\/',\n/);
  assert.match(world.logs[1][1], /^TypeError: x\n {4}at [\s\S]* \{\n {2}\[cause\]: 1\n\}$/);
});
