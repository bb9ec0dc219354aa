// Answers every path. Each request gets a fresh sandbox: what a global variable holds is
// gone after it.

import { Hono } from "hono";
import { streamText } from "hono/streaming";

const app = new Hono<{ Bindings: Env }>();

app.use(async (context, next) => {
  await next();
  console.log(context.req.method, context.req.path, context.res.status);
});

app.get("/", (context) => context.html(<Page greeting={context.env.GREETING} />));

app.get("/api/hello/:name", (context) => {
  const greeting = `${context.env.GREETING}, ${context.req.param("name")}!`;
  return context.json({ greeting, time: new Date().toISOString() });
});

// A number every half second. What is written is sent at once.
app.get("/api/countdown", (context) =>
  streamText(context, async (stream) => {
    for (let left = 3; left >= 0; left--) {
      await stream.writeln(`${left}`);
      await stream.sleep(500);
    }
  }),
);

app.notFound((context) => context.json({ error: "Nothing is here" }, 404));

function Page({ greeting }: { greeting: string }) {
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{{name}}</title>
      </head>
      <body>
        <h1>{greeting}</h1>
        <p>
          <a href="/api/hello/you">A greeting</a>, <a href="/api/countdown">a countdown</a>
        </p>
      </body>
    </html>
  );
}

export default app;
