import { deepEqual, equal } from "node:assert/strict";
import { AutoRouter, cors, error, type IRequest, json, status, StatusError, withContent, withParams } from "itty-router";
import { program } from "./program";

const { preflight, corsify } = cors({ origin: "https://example.com" });
const router = AutoRouter({
  before: [preflight, withParams],
  finally: [corsify],
  catch: (thrown: StatusError) => error(thrown.status ?? 500, { said: thrown.message }),
});
const users = new Map([["7", "Ada"]]);

router
  .get("/users/:id", ({ id }: IRequest) => users.get(id) ?? error(404, "no such user"))
  .get("/files/:path+", ({ path }: IRequest) => ({ path }))
  .get("/query", ({ query }: IRequest) => query)
  .post("/users", withContent, ({ content }: IRequest) => json({ made: content.name }, { status: 201 }))
  .delete("/users/:id", () => status(204))
  .get("/fails", () => {
    throw new StatusError(418, "short and stout");
  });

async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; value: unknown; headers: Headers }> {
  const headers = { origin: "https://example.com", "content-type": "application/json" };
  const init = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
  const response: Response = await router.fetch(new Request(`https://app.example${path}`, init));
  const text = await response.text();
  return { status: response.status, value: text === "" ? null : JSON.parse(text), headers: response.headers };
}

export default program(async () => {
  const user = await ask("GET", "/users/7");
  deepEqual([user.status, user.value], [200, "Ada"]);
  equal(user.headers.get("access-control-allow-origin"), "https://example.com");
  deepEqual(await ask("GET", "/users/8").then((answer) => [answer.status, answer.value]), [
    404,
    { status: 404, error: "no such user" },
  ]);
  deepEqual((await ask("GET", "/files/a/b/c.txt")).value, { path: "a/b/c.txt" });
  deepEqual((await ask("GET", "/query?a=1&b=2&b=3")).value, { a: "1", b: ["2", "3"] });
  const made = await ask("POST", "/users", { name: "Grace" });
  deepEqual([made.status, made.value], [201, { made: "Grace" }]);
  equal((await ask("DELETE", "/users/7")).status, 204);
  equal((await ask("OPTIONS", "/users/7")).status, 204);
  const failed = await ask("GET", "/fails");
  deepEqual([failed.status, failed.value], [418, { status: 418, said: "short and stout" }]);
  equal((await ask("GET", "/nowhere")).status, 404);
});
