import assert from "node:assert/strict";
import test from "node:test";
import { makeWorld } from "./host.mjs";

function worldWith(exports, options) {
  const world = makeWorld(options);
  world.load(world.run(`({ default: ${exports} })`));
  return world;
}

test("a response at hand is answered within the event", async () => {
  const world = worldWith(`{ fetch: (request, env) => Response.json({ url: request.url, greeting: env.GREETING }) }`, {
    env: [["text", "GREETING", "hi"]],
  });
  const answer = await world.request("GET", "http://a/b?c");
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.headers, ["content-type", "application/json"]);
  assert.deepEqual(JSON.parse(answer.body), { url: "http://a/b?c", greeting: "hi" });
});

test("a body that is passed on stays with the host", async () => {
  const world = worldWith(`{ fetch: (request) => new Response(request.body) }`);
  world.bodies.set(7, [Buffer.from("x")]);
  const answer = await world.request("POST", "http://a/", [], [7, 1]);
  assert.deepEqual(Array.from(answer.body), [7]);
});

test("a body that is here is read within the event", async () => {
  const world = worldWith(`{ fetch: async (request) => new Response((await request.json()).a + (await request.text().catch(String))) }`);
  world.bodies.set(5, [Buffer.from(`{ "a": 1 }`)]);
  const answer = await world.request("POST", "http://a/", [], [5, 10]);
  assert.match(answer.body, /^1TypeError: The body has been used/);
  assert.equal(world.bodies.has(5), false);
});

test("a body is read as text, and a stream is written chunk by chunk", async () => {
  const world = worldWith(`{ async fetch(request) {
    const text = await request.text();
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    (async () => {
      for (const part of [text, "-", text]) await writer.write(new TextEncoder().encode(part));
      await writer.close();
    })();
    return new Response(readable, { status: 201 });
  } }`);
  world.bodies.set(3, [Buffer.from("a"), Buffer.from("b")]);
  const answer = await world.request("POST", "http://a/", [], [3, -1]);
  assert.equal(answer.status, 201);
  assert.equal(Buffer.concat(answer.chunks).toString(), "ab-ab");
});

test("a handler that throws fails the request with the stack", async () => {
  const world = worldWith(`{ async fetch() { await null; throw new RangeError("no"); } }`);
  const { error } = await world.request("GET", "http://a/");
  assert.equal(error.name, "RangeError");
  assert.equal(error.message, "no");
  assert.match(error.stack, /at /);
  assert.deepEqual(world.logs, []);
});

test("a class is made once for each request", async () => {
  const world = worldWith(`class { constructor(ctx, env) { this.made = env.N; } fetch() { return new Response(this.made); } }`, {
    env: [["text", "N", "1"]],
  });
  assert.equal((await world.request("GET", "http://a/")).body, "1");
});

test("service-worker style listeners", async () => {
  const world = makeWorld();
  world.run(`addEventListener("fetch", (event) => event.respondWith(new Response(event.request.method)));
    addEventListener("scheduled", (event) => event.waitUntil(Promise.resolve().then(() => console.log(event.cron))));`);
  world.load(world.run("({})"));
  assert.equal((await world.request("PUT", "http://a/")).body, "PUT");
  world.event("scheduled", 99, "* * * * *", 0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(world.logs, [["info", "* * * * *"]]);
  assert.equal(world.answers.get(99).ended, true);
});

test("the client's leaving aborts the request's signal", async () => {
  const world = worldWith(`{ fetch: (request) => new Promise((resolve, reject) => {
    request.signal.addEventListener("abort", () => reject(request.signal.reason));
  }) }`);
  const ended = world.request("GET", "http://a/");
  assert.equal(world.answers.get(1).heeded, true);
  world.event("abort", 1);
  assert.equal((await ended).error.name, "AbortError");
});

test("the signal comes before the response's body is stopped", async () => {
  const world = worldWith(`{ fetch(request) {
    request.signal.addEventListener("abort", () => console.log("signal"));
    return new Response(new ReadableStream({
      pull(controller) { controller.enqueue(new Uint8Array(1)); return new Promise(() => {}); },
      cancel: () => console.log("cancel"),
    }));
  } }`);
  world.request("GET", "http://a/");
  await new Promise((resolve) => setTimeout(resolve, 5));
  world.event("abort", 1);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(world.logs.map(([, text]) => text), ["signal", "cancel"]);
});

test("a request that has ended is forgotten", async () => {
  const world = worldWith(`{ async fetch(request) {
    request.signal.addEventListener("abort", () => console.log("aborted"));
    await null;
    return new Response("done");
  } }`);
  assert.equal((await world.request("GET", "http://a/")).body, "done");
  world.event("abort", 1);
  assert.deepEqual(world.logs, []);
});

test("no handler is an error at load", () => {
  assert.throws(() => worldWith("{}"), /has no handler/);
});
