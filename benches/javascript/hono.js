// An API of ten routes with a middleware; the measured one takes a JSON body.

import { Hono } from "hono";

const app = new Hono();

app.use(async (context, next) => {
  await next();
  context.header("x-api-version", "3");
});

app.get("/", (context) => context.text("tasks"));
app.get("/health", (context) => context.json({ healthy: true }));
app.get("/projects", (context) => context.json({ projects: [] }));
app.post("/projects", async (context) => context.json(await context.req.json()));
app.get("/projects/:project", (context) => context.json(context.req.param()));
app.delete("/projects/:project", (context) => context.body(null, 204));
app.get("/projects/:project/tasks", (context) => context.json({ ...context.req.param(), tasks: [] }));
app.post("/projects/:project/tasks", async (context) => {
  const { title, labels = [], due = null } = await context.req.json();
  if (typeof title !== "string" || title.length === 0) {
    return context.json({ error: "A task needs a title" }, 400);
  }
  const project = context.req.param("project");
  return context.json({ project, title, labels: labels.map((label) => label.toLowerCase()), due });
});
app.get("/projects/:project/tasks/:task", (context) => context.json(context.req.param()));
app.put("/projects/:project/tasks/:task", (context) => context.json(context.req.param()));

export default app;
