import assert from "node:assert/strict";
import test from "node:test";
import { makeWorld, Refusal } from "./host.mjs";

/** Caches that keep everything, by name and URL, and tell what they were asked. */
function worldWithCaches() {
  const stored = new Map();
  const asked = [];
  const writing = new Map();
  const keyOf = (cache, url) => `${cache} ${url}`;
  const bodies = () => world.bodies;
  const operations = {
    async 31(operation, bytes) {
      const writes = writing.get(operation);
      if (writes === undefined) throw new Refusal("AbortError", "nobody reads this body any more");
      writes.chunks.push(Buffer.from(bytes));
      return null;
    },
    32(operation, failed) {
      const writes = writing.get(operation);
      writing.delete(operation);
      if (failed === null) writes?.resolve(Buffer.concat(writes.chunks));
      else writes?.reject(new Refusal("TypeError", `the body broke off: ${failed}`));
      return null;
    },
    async 33(cache, url, headers) {
      asked.push(["find", cache, url, ...headers]);
      const found = stored.get(keyOf(cache, url));
      if (found === undefined) return null;
      bodies().set(90, [found.body]);
      return [found.status, "", found.headers, 90, "", false];
    },
    async 34(cache, url, requestHeaders, status, headers, body, signal, operation) {
      asked.push(["put", cache, url, ...requestHeaders]);
      if (headers.includes("no-store")) return false;
      const whole = body === true ? await new Promise((resolve, reject) => writing.set(operation, { chunks: [], resolve, reject })) : body;
      stored.set(keyOf(cache, url), { status, headers: Array.from(headers), body: Buffer.from(whole ?? "") });
      return true;
    },
    async 35(cache, url) {
      return stored.delete(keyOf(cache, url));
    },
  };
  const world = makeWorld({ operations });
  world.load(world.run("({ default: { fetch: (request) => answer(request) } })"));
  /** Runs the body of an async function for a request, and gives what it returns. */
  const inRequest = async (body, method = "GET", url = "http://app/a") => {
    world.run(`globalThis.answer = async (request) => Response.json((await (async () => { ${body} })()) ?? null)`);
    const answer = await world.request(method, url, ["accept", "text/html"]);
    if (answer.error !== undefined) throw new Error(answer.error.message);
    return JSON.parse(answer.body);
  };
  return { world, stored, asked, inRequest };
}

test("what was put is found by its URL, in the same cache", async () => {
  const { asked, inRequest } = worldWithCaches();
  const found = await inRequest(`
    const cache = await caches.open("other");
    const put = await cache.put(request, new Response("text", { status: 203, headers: { "x-a": "b" } }));
    const again = await (await caches.open("other")).match(new URL("http://app/a"));
    return [put === undefined, again.status, again.headers.get("x-a"), again.url, await again.text(),
      (await caches.default.match("http://app/a")) === undefined, (await cache.match("http://app/b")) === undefined];`);
  assert.deepEqual(found, [true, 203, "b", "", "text", true, true]);
  assert.deepEqual(asked[0], ["put", "other", "http://app/a", "accept", "text/html"]);
  assert.deepEqual(asked[2], ["find", null, "http://app/a"]);
});

test("delete says whether there was something", async () => {
  const { inRequest } = worldWithCaches();
  const said = await inRequest(`
    await caches.default.put(request.url, new Response("x"));
    return [await caches.default.delete(request), await caches.default.delete(request)];`);
  assert.deepEqual(said, [true, false]);
});

test("only GET is found, unless the method is ignored", async () => {
  const { asked, inRequest } = worldWithCaches();
  const said = await inRequest(
    `await caches.default.put(request.url, new Response("x"));
    return [
      await caches.default.match(request) === undefined,
      await (await caches.default.match(request, { ignoreMethod: true })).text(),
      await caches.default.delete(request),
      await caches.default.delete(request, { ignoreMethod: 1 }),
      await caches.default.match("blob:nothing") === undefined,
    ];`,
    "POST",
  );
  assert.deepEqual(said, [true, "x", false, true, true]);
  assert.deepEqual(asked.map(([what]) => what), ["put", "find"]);
});

test("put refuses what can not be found again", async () => {
  const { asked, inRequest } = worldWithCaches();
  const refused = await inRequest(`
    const put = (request, response) => caches.default.put(request, response).then(() => "stored", (error) => error.constructor === TypeError && error.message);
    const used = new Response("x");
    await used.text();
    return [
      await put(new Request(request, { method: "POST" }), new Response("x")),
      await put(request, new Response("x", { status: 206 })),
      await put(request, new Response(null, { status: 304 })),
      await put(request, Response.error()),
      await put(request, new Response("x", { headers: { vary: "accept, *" } })),
      await put("data:,x", new Response("x")),
      await put(request, used),
      await put(request, "x"),
      await put("no URL", new Response("x")),
    ];`);
  const reasons = [/not to POST/, /206/, /304/, /network error/, /Vary: \*/, /http: and https:/, /used already/, /takes a Response/, /Invalid URL/];
  reasons.forEach((reason, index) => assert.match(refused[index], reason));
  assert.deepEqual(asked, []);
});

test("a stream is written piece by piece, beside another reader of it", async () => {
  const { stored, inRequest } = worldWithCaches();
  const text = await inRequest(`
    const stream = () => {
      let left = 3;
      return new ReadableStream({ pull(controller) { left-- ? controller.enqueue(new TextEncoder().encode("part ")) : controller.close(); } });
    };
    const response = new Response(stream());
    const put = caches.default.put(request, response.clone());
    const text = await response.text();
    await put;
    return text;`);
  assert.equal(text, "part part part ");
  assert.equal(stored.get("null http://app/a").body.toString(), text);
});

test("a stream that breaks off fails the put with its reason, and is not stored", async () => {
  const { stored, inRequest } = worldWithCaches();
  const reason = await inRequest(`
    const body = new ReadableStream({ pull(controller) { controller.error(new RangeError("no more")); } });
    return caches.default.put(request, new Response(body)).catch((error) => String(error));`);
  assert.equal(reason, "RangeError: no more");
  assert.equal(stored.size, 0);
});

test("a stream that is not to be stored is let go, and put resolves", async () => {
  const { stored, inRequest } = worldWithCaches();
  const cancelled = await inRequest(`
    let cancelled = false;
    const body = new ReadableStream({
      pull: (controller) => new Promise((done) => setTimeout(() => { controller.enqueue(new Uint8Array(1)); done(); }, 1)),
      cancel() { cancelled = true; },
    });
    await caches.default.put(request, new Response(body, { headers: { "cache-control": "no-store" } }));
    await new Promise((done) => setTimeout(done, 20));
    return cancelled;`);
  assert.equal(cancelled, true);
  assert.equal(stored.size, 0);
});

test("a body that the host has goes into a cache without coming here", async () => {
  const { world, inRequest } = worldWithCaches();
  world.bodies.set(5, [Buffer.from("x")]);
  let body;
  world.operations[34] = async (...values) => {
    body = Array.from(values[5]);
    return true;
  };
  world.operations[30] = async () => [200, "OK", [], 5, "http://other/", false];
  await inRequest(`await caches.default.put(request, await fetch("http://other/"));`);
  assert.deepEqual(body, [5]);
});

test("caches have the look of interfaces, and no other makes them", async () => {
  const { run } = makeWorld();
  assert.equal(run("String(caches) + String(caches.default)"), "[object CacheStorage][object Cache]");
  assert.equal(run("caches.default === caches.default && caches instanceof CacheStorage"), true);
  assert.equal(run("[Cache, CacheStorage].map((made) => { try { new made(); } catch (error) { return error.message; } }).join()"), "Illegal constructor,Illegal constructor");
  assert.equal(run("[Cache.length, Cache.prototype.match.length, Cache.prototype.put.length, CacheStorage.prototype.open.length].join()"), "0,1,2,1");
  assert.throws(() => run("caches.has('x')"), /caches.has is not offered by this runtime/);
  assert.throws(() => run("caches.default.addAll([])"), /Cache.addAll is not offered by this runtime/);
  await assert.rejects(run("caches.open('')"), /needs a name/);
  await assert.rejects(run("caches.open('x'.repeat(1025))"), /1024 characters/);
});

test("caches are refused at load, and open there", async () => {
  const { run } = makeWorld();
  await assert.rejects(run("caches.default.match('http://a/')"), /at top level/);
  assert.equal(String(await run("caches.open('x')")), "[object Cache]");
});
