/** @jsxImportSource hono/jsx */
import { Hono } from "hono";
import { cors } from "hono/cors";
import { etag } from "hono/etag";
import { HTTPException } from "hono/http-exception";
import type { FC, PropsWithChildren } from "hono/jsx";
import { requestId } from "hono/request-id";
import { stream, streamSSE, streamText } from "hono/streaming";
import { validator } from "hono/validator";

type Bindings = { SNAPSHOT: string };

const app = new Hono<{ Bindings: Bindings; Variables: { trail: string[] } }>();

app.use("*", requestId());
app.use("/api/*", cors(), async (context, next) => {
  context.set("trail", ["before"]);
  await next();
  context.header("x-trail", [...context.get("trail"), "after"].join());
});
app.use("/etag", etag());

const Page: FC<PropsWithChildren<{ title: string }>> = ({ title, children }) => (
  <html lang="en">
    <body>
      <h1>{title}</h1>
      {children}
    </body>
  </html>
);

const Later = async ({ name }: { name: string }) => {
  await new Promise((done) => setTimeout(done, 5));
  return <b>{name}</b>;
};

app.get("/", (context) => context.text("well"));
app.get("/values", (context) =>
  context.json([Math.random(), performance.timeOrigin + performance.now(), crypto.randomUUID(), context.var.requestId]),
);
app.get("/api/users/:id{[0-9]+}", (context) => {
  context.get("trail").push("handler");
  return context.json({ id: context.req.param("id"), fields: context.req.queries("field") ?? [] });
});
const order = validator("json", (value, context) => {
  if (typeof value.name !== "string") return context.json({ wrong: "name" }, 422);
  return { name: value.name as string };
});
app.post("/api/orders", order, (context) => context.json({ made: context.req.valid("json").name }, 201));
app.get("/api/fails", () => {
  throw new HTTPException(403, { message: "not for you" });
});
app.get("/page", (context) =>
  context.html(
    <Page title={"<Weather> & more"}>
      {["wind", "rain"].map((name) => (
        <Later name={name} />
      ))}
    </Page>,
  ),
);
app.get("/etag", (context) => context.text("tagged"));
app.get("/text", (context) =>
  streamText(context, async (out) => {
    for (const line of ["one", "two", "three"]) {
      await out.writeln(line);
      await out.sleep(100);
    }
  }),
);
app.get("/events", (context) =>
  streamSSE(context, async (out) => {
    for (let id = 1; id <= 3; id++) await out.writeSSE({ id: `${id}`, event: "tick", data: `${id * id}` });
  }),
);
app.post("/upper", (context) =>
  stream(context, async (out) => {
    const body = context.req.raw.body!.pipeThrough(new TextDecoderStream());
    for await (const text of body) await out.write(text.toUpperCase());
  }),
);
app.route("/nested", new Hono().basePath("/deep").get("/path", (context) => context.text(context.req.path)));
app.notFound((context) => context.text("nothing here", 404));

export default app;
