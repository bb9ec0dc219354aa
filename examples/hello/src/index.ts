// The function behind the page in public/: an API and a stream.

import { ticks } from "./ticks";

export default {
  fetch(request, env): Response {
    const url = new URL(request.url);
    if (request.method !== "GET" && request.method !== "HEAD") {
      return Response.json({ error: "only GET is answered here" }, { status: 405 });
    }
    switch (url.pathname) {
      case "/api/hello":
        return hello(url.searchParams.get("name") || "world", env);
      case "/api/ticks":
        return ticks(request);
      default:
        return Response.json({ error: "try /api/hello or /api/ticks" }, { status: 404 });
    }
  },
} satisfies ExportedHandler<Env>;

function hello(name: string, env: Env): Response {
  console.log(`greeting ${name}`);
  const greeting = `${env.GREETING}, ${name.slice(0, 40)}!`;
  return Response.json(
    { greeting, time: new Date().toISOString() },
    { headers: { "cache-control": "no-store" } },
  );
}
