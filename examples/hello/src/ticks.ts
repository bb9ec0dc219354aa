// Server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html

const TICKS_PER_RESPONSE = 20;
const PAUSE_MS = 500;

/** A tick every half second. A browser connects again after the last one and says which it had. */
export function ticks(request: Request): Response {
  const first = Number(request.headers.get("last-event-id") ?? 0) + 1;
  if (!Number.isSafeInteger(first)) {
    return Response.json({ error: "last-event-id is not a number" }, { status: 400 });
  }
  return new Response(stream(first), {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}

/** `pull` is called as fast as the client reads, and never again once it has gone. */
function stream(first: number): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next = first;
  return new ReadableStream({
    async pull(controller) {
      if (next === first + TICKS_PER_RESPONSE) return controller.close();
      if (next > first) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const tick = { number: next, time: new Date().toISOString() };
      controller.enqueue(encoder.encode(`id: ${next}\nretry: ${PAUSE_MS}\ndata: ${JSON.stringify(tick)}\n\n`));
      next += 1;
    },
  });
}
