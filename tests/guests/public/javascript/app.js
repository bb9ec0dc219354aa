// A function in JavaScript: a fetch event handler, with a response that is streamed.

addEventListener("fetch", (event) => event.respondWith(handle(event.request)));

async function handle(request) {
  const { pathname } = new URL(request.url);
  if (pathname === "/stream") return stream();
  if (pathname === "/echo") return new Response(await request.text());
  return new Response(JSON.stringify({ language: "javascript", sum: 5050, path: pathname }), {
    headers: { "content-type": "application/json" },
  });
}

function stream() {
  const encoder = new TextEncoder();
  let part = 0;
  const body = new ReadableStream({
    async pull(controller) {
      part += 1;
      controller.enqueue(encoder.encode(JSON.stringify({ part }) + "\n"));
      if (part === 5) return controller.close();
      await new Promise((resume) => setTimeout(resume, 50));
    },
  });
  return new Response(body, { headers: { "content-type": "application/x-ndjson" } });
}
