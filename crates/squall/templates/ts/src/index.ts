// Answers everything below /api/. Each request gets a fresh sandbox: what a global
// variable holds is gone after it.

export default {
  fetch(request, env): Response {
    const url = new URL(request.url);
    console.log(request.method, url.pathname);
    switch (url.pathname) {
      case "/api/hello":
        return hello(url.searchParams.get("name") ?? "world", env);
      case "/api/countdown":
        return new Response(countdown(3), {
          headers: { "content-type": "text/plain; charset=utf-8" },
        });
      default:
        return Response.json({ error: "Nothing is here" }, { status: 404 });
    }
  },
} satisfies ExportedHandler<Env>;

function hello(name: string, env: Env): Response {
  const greeting = `${env.GREETING}, ${name}!`;
  return Response.json({ greeting, time: new Date().toISOString() });
}

/** A number every half second. What is enqueued is sent at once. */
function countdown(from: number): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let left = from;
  return new ReadableStream({
    async pull(controller) {
      controller.enqueue(encoder.encode(`${left}\n`));
      if (left === 0) {
        controller.close();
        return;
      }
      left -= 1;
      await new Promise((resolve) => setTimeout(resolve, 500));
    },
  });
}
