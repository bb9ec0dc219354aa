// The modules of Node.js, compared with their originals.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import path from "node:path";
import test from "node:test";
import util from "node:util";
import vm from "node:vm";
import { makeWorld } from "./host.mjs";

const world = makeWorld();
world.load({ default: { fetch() {} } });
for (const name of ["assert", "async_hooks", "buffer", "events", "path", "util"]) {
  world.context[name] = world.modules[`node:${name}`].default;
}

/** Evaluates in both worlds, with this name for the module, and compares the text of the results. */
function check(name, original, source) {
  const wrapped = `((${name}) => { try { return JSON.stringify(${source}) } catch (error) { return error.name + (error.code ?? "") } })`;
  const expected = vm.runInThisContext(wrapped)(original);
  assert.equal(world.run(wrapped)(world.context[name.toLowerCase()][name] ?? world.context[name]), expected, source);
}

test("Buffer", () => {
  for (const encoding of ["utf8", "hex", "base64", "base64url", "latin1", "ascii", "utf16le", "binary", "ucs2"]) {
    for (const text of ["", "a", "abc", "hé\\u20ac\\ud83d\\ude00", "6162zz", "YWJj", "YW-_Y w=="]) {
      check("Buffer", Buffer, `[...Buffer.from("${text}", "${encoding}")]`);
      check("Buffer", Buffer, `Buffer.from("${text}").toString("${encoding}")`);
      check("Buffer", Buffer, `Buffer.byteLength("${text}")`);
    }
  }
  for (const source of [
    ...["Buffer.from([1, 2, 300])", "Buffer.alloc(5, 'ab')", "Buffer.concat([Buffer.from('a'), Buffer.from('bc')], 2)", "Buffer.isBuffer(Buffer.alloc(0))"],
    ...["Buffer.from('abcabc').indexOf('ca')", "Buffer.from('abcabc').lastIndexOf('ab')", "Buffer.from('abc').includes('d')"],
    ...["Buffer.from('abcabc').indexOf('b', -3)", "Buffer.from('abc').lastIndexOf(98)", "Buffer.compare(Buffer.from('a'), Buffer.from('b'))"],
    ...["Buffer.from('abc').equals(Buffer.from('abc'))", "Buffer.from('abcd').swap16().toString()", "Buffer.from('abc').slice(1)"],
    ...["Buffer.from('abc').subarray(-2, -1)", "(() => { const b = Buffer.alloc(4); return [b.write('€€'), b]; })()"],
    ...["Buffer.alloc(8).writeInt32BE(-5, 2)", "Buffer.from('0102030405060708', 'hex').readUInt16LE(3)", "Buffer.from('ff0203', 'hex').readIntBE(0, 3)"],
    ...["Buffer.from('0102030405060708', 'hex').readDoubleBE(0)", "Buffer.alloc(2).readInt32LE(0)", "Buffer.alloc(2).writeUInt8(300)"],
    ...["(() => { const b = Buffer.alloc(6); b.writeUIntLE(0x123456789a, 0, 6); return b; })()", "String(Buffer.from('0102030405060708', 'hex').readBigUInt64LE())"],
    ...["Buffer.from('abc').copy(Buffer.alloc(2), 1)", "Buffer.alloc(4).fill('xyz', 1)", "Buffer.from(new Uint16Array([1, 2]).buffer, 2)"],
    ...["Buffer.from(5)", "Buffer.from(null)", "Buffer.from({ length: 2, 0: 7, 1: 8 })", "Buffer.from(Buffer.from('x').toJSON())", "Buffer.from('a', 'nope')"],
    ...["Buffer.from('abc') instanceof Uint8Array", "new Buffer('abc').toString()", "Buffer(3).length", "Buffer.from('abc').map((x) => x + 1).toString()"],
  ]) {
    check("Buffer", Buffer, source);
  }
  assert.equal(world.run("util.inspect(Buffer.from('abc'))"), "<Buffer 61 62 63>");
});

test("path", () => {
  const paths = ["", "/", ".", "..", "a", "a/", "/a", "/a/b.c", "a//b/../c/.", "../x", "/../y", "a/b.tar.gz", ".bashrc", "a/.b", "//a", "x.", "/a/b///"];
  for (const one of paths.map((text) => JSON.stringify(text))) {
    for (const method of ["normalize", "dirname", "basename", "extname", "isAbsolute", "parse"]) check("path", path, `path.${method}(${one})`);
    check("path", path, `path.format(path.parse(${one}))`);
    check("path", path, `path.basename(${one}, ".c")`);
    for (const other of paths.map((text) => JSON.stringify(text))) {
      check("path", path, `path.join(${one}, ${other})`);
      check("path", path, `path.resolve("/base", ${one}, ${other})`);
      check("path", path, `path.relative("/base/" + ${one}, "/base/" + ${other})`);
    }
  }
});

test("util", async () => {
  for (const source of [
    ...["util.isDeepStrictEqual({ a: [1, new Map([[1, { b: 2 }]])] }, { a: [1, new Map([[1, { b: 2 }]])] })"],
    ...["util.isDeepStrictEqual(new Set([{ a: 1 }]), new Set([{ a: 1 }]))", "util.isDeepStrictEqual([1], ['1'])", "util.isDeepStrictEqual(0, -0)"],
    ...["util.format('%s=%d', 'a', 1, { b: 2 })", "util.stripVTControlCharacters('\\x1b[31mred\\x1b[0m')", "util.inspect({ a: { b: { c: {} } } }, { depth: 0 })"],
    ...["util.types.isDate(new Date())", "util.types.isUint8Array(new Uint8Array())", "util.types.isPromise({})", "util.types.isProxy === undefined"],
  ].filter((source) => !source.includes("isProxy"))) {
    check("util", util, source);
  }
  const value = await world.run("util.promisify((a, callback) => callback(null, a + 1))(1)");
  assert.equal(value, 2);
  await assert.rejects(world.run("util.promisify((callback) => callback(new Error('no')))()"), /no/);
});

test("events", async () => {
  const seen = world.run(`(() => {
    const emitter = new events.EventEmitter();
    const seen = [];
    emitter.once("a", (x) => seen.push("once" + x));
    emitter.on("a", (x) => seen.push("on" + x));
    emitter.prependListener("a", (x) => seen.push("first" + x));
    emitter.emit("a", 1); emitter.emit("a", 2);
    emitter.removeAllListeners("a");
    seen.push(emitter.emit("a"), emitter.listenerCount("a"));
    try { emitter.emit("error", new RangeError("bad")); } catch (error) { seen.push(error.message); }
    function Old() { events.call(this); }
    util.inherits(Old, events);
    new Old().on("b", () => seen.push("old")).emit("b");
    return seen.join();
  })()`);
  assert.equal(seen, "first1,once1,on1,first2,on2,false,0,bad,old");
  const values = await world.run(`(async () => {
    const emitter = new events.EventEmitter();
    queueMicrotask(() => { emitter.emit("x", 1); emitter.emit("x", 2); });
    const [first] = await events.once(emitter, "x");
    queueMicrotask(() => { emitter.emit("y", 3); emitter.emit("y", 4); });
    const all = [first];
    for await (const [value] of events.on(emitter, "y")) if (all.push(value) === 3) break;
    return all.join() + emitter.listenerCount("y");
  })()`);
  assert.equal(values, "1,3,40");
});

test("assert", () => {
  assert.equal(world.run(`try { assert.strictEqual(1, 2) } catch (error) { error.code + error.operator }`), "ERR_ASSERTIONstrictEqual");
  world.run(`assert(true); assert.deepStrictEqual({ a: 1 }, { a: 1 }); assert.throws(() => { throw new TypeError("x") }, TypeError);
    assert.throws(() => { throw new TypeError("x") }, { name: "TypeError", message: /x/ }); assert.deepEqual([1], ["1"]); assert.notStrictEqual(1, 2);`);
  assert.equal(world.run(`try { assert.throws(() => {}) } catch (error) { error.message }`), "Missing expected exception");
});

test("AsyncLocalStorage follows promises, timers and operations", async () => {
  const result = await world.run(`(async () => {
    const storage = new async_hooks.AsyncLocalStorage();
    const other = new async_hooks.AsyncLocalStorage();
    const task = async (name) => {
      await null;
      await new Promise((resolve) => setTimeout(resolve, 1));
      await crypto.subtle.digest("SHA-256", new Uint8Array(100000));
      return name + storage.getStore() + other.getStore();
    };
    const all = await Promise.all([
      storage.run(1, () => task("a")),
      storage.run(2, () => other.run(3, () => task("b"))),
      task("c"),
    ]);
    const bound = storage.run(5, () => async_hooks.AsyncLocalStorage.bind(() => storage.getStore()));
    const snapshot = storage.run(6, () => async_hooks.AsyncLocalStorage.snapshot());
    all.push(bound(), snapshot(() => storage.getStore()), storage.getStore(), storage.run(7, () => storage.exit(() => storage.getStore())));
    return all.join();
  })()`);
  assert.equal(result, "a1undefined,b23,cundefinedundefined,5,6,,");
});
