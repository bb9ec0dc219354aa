// A host for engine.wasm in a few lines: what the Rust side does, for the tests here.

import { readFileSync } from "node:fs";

const file = process.env.ENGINE ?? new URL("../engine.wasm", import.meta.url);
export const module = new WebAssembly.Module(readFileSync(file));

export const DONE = 0, EXCEPTION = 1, INTERRUPTED = 2, PENDING = 3, OUT_OF_MEMORY = 4;
export const WALL_CLOCK = 1, RANDOM_BYTES = 3, LOG = 18;
export const PAGE = 4096;

export function encode(value) {
  const parts = [];
  const number = (tag, size, set) => {
    const bytes = Buffer.alloc(1 + size);
    bytes[0] = tag;
    set(bytes);
    parts.push(bytes);
  };
  const put = (value) => {
    if (value === null) parts.push(Buffer.of(0));
    else if (value === undefined) parts.push(Buffer.of(1));
    else if (typeof value === "boolean") parts.push(Buffer.of(value ? 3 : 2));
    else if (typeof value === "number") {
      if (Object.is(value, value | 0)) number(4, 4, (b) => b.writeInt32LE(value, 1));
      else number(5, 8, (b) => b.writeDoubleLE(value, 1));
    } else if (typeof value === "string") {
      const bytes = Buffer.from(value);
      number(6, 4, (b) => b.writeUInt32LE(bytes.length, 1));
      parts.push(bytes);
    } else if (value instanceof Uint8Array) {
      number(7, 4, (b) => b.writeUInt32LE(value.length, 1));
      parts.push(value);
    } else {
      number(8, 4, (b) => b.writeUInt32LE(value.length, 1));
      for (const element of value) put(element);
    }
  };
  put(value);
  return Buffer.concat(parts);
}

export function decode(bytes) {
  let at = 0;
  const take = () => {
    const tag = bytes[at++];
    if (tag < 4) return [null, undefined, false, true][tag];
    if (tag === 4) return (at += 4), bytes.readInt32LE(at - 4);
    if (tag === 5) return (at += 8), bytes.readDoubleLE(at - 8);
    const length = bytes.readUInt32LE(at);
    at += 4;
    if (tag === 6) return (at += length), bytes.toString("utf8", at - length, at);
    if (tag === 7) return (at += length), Uint8Array.from(bytes.subarray(at - length, at));
    if (tag !== 8) throw new Error(`tag ${tag} at ${at}`);
    return Array.from({ length }, take);
  };
  const value = take();
  if (at !== bytes.length) throw new Error(`${bytes.length - at} bytes are left`);
  return value;
}

export class Refusal extends Error {}

/** What a program may find under `__host`, by the tests' own web layer. */
export const LAYER = `
  const host = globalThis.__host;
  delete globalThis.__host;
  let handler = () => {};
  host.onRefusal = ([name, message]) => Object.assign(new Error(message), { name });
  host.onEvent = (kind, ...values) => {
    if (kind === "load") { handler = values[0].default ?? handler; host.call(100, "load"); return; }
    return handler(kind, ...values);
  };
  host.onComplete = (operation, failed, value) => host.call(101, operation, failed, value);
  host.onRejection = (promise, reason, handled) => host.call(102, String(reason), handled);
  host.setContext("base");
  host.registerModule("squall:host", { host, answer: 42 });
  host.registerModule("node:thing", { default: "the default", a: 1, b: "two" });
`;

export class Engine {
  /** `call(op, values)` answers operations; what it throws as a Refusal is a refusal. */
  constructor({ call = () => null, layer = LAYER, largest = Infinity } = {}) {
    this.calls = [];
    this.started = [];
    this.cancelled = [];
    this.answer = call;
    this.waiting = null;
    const squall = {
      call: (op, at, length, out, capacity) => {
        const values = decode(this.read(at, length));
        this.calls.push([op, ...values]);
        let result, sign = 1;
        try {
          result = encode(this.answer(op, values));
        } catch (error) {
          if (!(error instanceof Refusal)) throw error;
          result = encode([error.name, error.message]);
          sign = -1;
        }
        if (result.length <= capacity) this.write(out, result);
        else this.waiting = result;
        return sign * result.length;
      },
      take: (out) => this.write(out, this.waiting),
      start: (op, at, length) => this.started.push([op, ...decode(this.read(at, length))]),
      cancel: (operation) => void this.cancelled.push(operation),
    };
    this.exports = new WebAssembly.Instance(module, { squall }).exports;
    this.memory = this.exports.memory;
    this.exports._initialize();
    if (layer !== null) this.expect(this.boot(layer), DONE);
    if (largest !== Infinity) this.limit(largest);
  }

  read(at, length) {
    return Buffer.from(Buffer.from(this.memory.buffer, at >>> 0, length));
  }

  write(at, bytes) {
    new Uint8Array(this.memory.buffer).set(bytes, at >>> 0);
  }

  input(bytes) {
    const at = this.exports.squall_buffer(bytes.length);
    if (at === 0) throw new Error("no input buffer");
    this.write(at, bytes);
    return bytes.length;
  }

  boot(source) {
    return this.exports.squall_boot(this.input(Buffer.from(source)));
  }

  load(source, name = "index.js") {
    return this.exports.squall_load(this.input(encode([name, source])));
  }

  /** Loads a program that must load. */
  program(source) {
    this.expect(this.load(source), DONE);
    return this;
  }

  event(...values) {
    return this.exports.squall_event(this.input(encode(values)));
  }

  complete(operation, failed, value) {
    return this.exports.squall_complete(operation, failed ? 1 : 0, this.input(encode(value)));
  }

  prepare() {
    this.expect(this.exports.squall_prepare(), DONE);
  }

  failure() {
    const view = new DataView(this.memory.buffer);
    const at = this.exports.squall_out();
    const length = view.getUint32(at + 4, true);
    return length ? decode(this.read(view.getUint32(at, true), length)) : null;
  }

  expect(result, wanted) {
    if (result !== wanted) throw new Error(`result ${result}: ${this.failure()?.join(" | ")}`);
  }

  setInterrupt(value) {
    this.write(this.exports.squall_interrupt_flag(), [value ? 1 : 0]);
  }

  snapshot() {
    return { bytes: Buffer.from(this.memory.buffer.slice(0)), stack: this.exports.__stack_pointer.value };
  }

  restore({ bytes, stack }) {
    const now = new Uint8Array(this.memory.buffer);
    now.set(bytes);
    now.fill(0, bytes.length);
    this.exports.__stack_pointer.value = stack;
  }

  /** Pages that differ from a snapshot. */
  dirty({ bytes }) {
    const now = Buffer.from(this.memory.buffer);
    const pages = [];
    for (let at = 0; at < now.length; at += PAGE) {
      const before = at < bytes.length ? bytes.subarray(at, at + PAGE) : Buffer.alloc(PAGE);
      if (now.compare(before, 0, PAGE, at, at + PAGE) !== 0) pages.push(at / PAGE);
    }
    return pages;
  }
}
