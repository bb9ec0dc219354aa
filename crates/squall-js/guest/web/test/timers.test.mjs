import assert from "node:assert/strict";
import test from "node:test";
import { makeWorld } from "./host.mjs";

function worldWith(source) {
  const world = makeWorld();
  world.load(world.run(`({ default: { fetch(request, env, ctx) { ${source} } } })`));
  return world;
}

test("timers run in order, with their arguments", async () => {
  const world = worldWith(`return new Promise((resolve) => {
    const seen = [];
    setTimeout((a, b) => seen.push(a + b), 8, "t", 2);
    setTimeout(() => seen.push("t1"), 1);
    queueMicrotask(() => seen.push("m"));
    const never = setTimeout(() => seen.push("never"), 1);
    clearTimeout(never);
    let count = 0;
    const repeated = setInterval(() => {
      if (++count < 3) return;
      clearInterval(repeated);
      resolve(new Response(seen.join() + count));
    }, 5);
  });`);
  const answer = await world.request("GET", "http://a/");
  assert.equal(answer.body, "m,t1,t23");
  assert.equal(answer.left, 0);
});

test("what a request leaves behind is cancelled and counted", async () => {
  const world = worldWith(`
    setTimeout(() => console.log("late"), 10);
    setInterval(() => console.log("late"), 10);
    return new Response("x");`);
  const answer = await world.request("GET", "http://a/");
  assert.equal(answer.left, 2);
  assert.equal(world.underWay.size, 0);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.deepEqual(world.logs, []);
});

test("waitUntil keeps a request open", async () => {
  const world = worldWith(`
    ctx.waitUntil(new Promise((resolve) => setTimeout(() => (console.log("done"), resolve()), 5)));
    return new Response("x");`);
  const answer = await world.request("GET", "http://a/");
  assert.deepEqual(world.logs, [["info", "done"]]);
  assert.equal(answer.left, 0);
});

test("one request can not clear the timer of another", async () => {
  const world = worldWith(`
    if (request.url.endsWith("1")) {
      return new Promise((resolve) => { globalThis.timer = setTimeout(() => resolve(new Response("fired")), 5); });
    }
    clearTimeout(globalThis.timer);
    return new Response("cleared");`);
  const first = world.request("GET", "http://a/1");
  await world.request("GET", "http://a/2");
  assert.equal((await first).body, "fired");
});

test("an exception in a timer is logged, and offered to the scope first", async () => {
  const world = worldWith(`return new Promise((resolve) => {
    setTimeout(() => { throw new TypeError("one"); }, 1);
    setTimeout(() => {
      addEventListener("error", (event) => { event.preventDefault(); resolve(new Response(event.error.message)); });
      setTimeout(() => { throw new TypeError("two"); }, 1);
    }, 3);
  });`);
  assert.equal((await world.request("GET", "http://a/")).body, "two");
  assert.equal(world.logs.length, 1);
  assert.match(world.logs[0][1], /^uncaught: TypeError: one/);
});

test("timers are refused at load, and code in strings always", () => {
  const world = makeWorld();
  assert.throws(() => world.run("setTimeout(() => {}, 1)"), /setTimeout can not be used at top level/);
  assert.equal(world.run("try { setTimeout('x') } catch (error) { error.name }"), "EvalError");
});
