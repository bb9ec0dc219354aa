// A function for wasi:http 0.3, whose bodies are streams of the component model.

import types from "wasi:http/types@0.3.0";
import clock from "wasi:clocks/monotonic-clock@0.3.0";

const { Fields, Response } = types;
const encode = (text) => Uint8Array.from(unescape(encodeURIComponent(text)), (c) => c.charCodeAt(0));

async function* parts() {
  for (let part = 1; part <= 5; part++) {
    yield encode(JSON.stringify({ part }) + "\n");
    if (part < 5) await clock.waitFor(50_000_000);
  }
}

async function* once(text) {
  yield encode(text);
}

async function handle(request) {
  const path = (request.getPathWithQuery() ?? "/").split("?")[0];
  const headers = Fields.fromList([["content-type", encode("application/json")]]);
  const contents =
    path === "/stream"
      ? parts()
      : once(JSON.stringify({ language: "javascript", wasi: "0.3", sum: 5050, path }));
  const { readable: trailers, writable } = wit.Future(wit.Future.RESULT_OPTION_OTHER_ERROR_CODE);
  const [response] = Response.new(headers, contents, trailers);
  writable.write({ tag: "ok", val: null });
  return response;
}

export const handler = { handle };
