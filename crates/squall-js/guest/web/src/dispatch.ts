// Events from the host to handlers, and answers back. A handler that has its response at hand is
// answered within the event, in one operation; everything else goes by the promises it returns.

import { adoptExports, invokeHandler } from "./handlers.js";
import { host } from "./host.js";
import { Body } from "./fetch/body.js";
import { makeIncomingRequest } from "./fetch/request.js";
import { isResponse, responseHeaderList, type Response, takeResponseBody } from "./fetch/response.js";
import { isReadableStream, type ReadableStream } from "./fetch/stream-access.js";
import { endLoad } from "./load.js";
import { FAIL, RESPOND, RESPOND_AND_END, RESPONSE_END, RESPONSE_WRITE } from "./ops.js";
import { describeError, logError } from "./report.js";
import { register, RequestState, requestWithId } from "./request-state.js";
import { HostWriter } from "./streams/host-writer.js";
import "./rejections.js";

const FULFILLED = 1;
const PENDING = 0;

// Parameters by place rather than a rest array: this runs for every request.
host.onEvent = (kind, first, second, third, fourth, fifth) => {
  switch (kind) {
    case "fetch":
      return onFetch(
        first as number,
        second as string,
        third as string,
        fourth as string[],
        fifth as [handle: number, length: number] | null,
      );
    case "scheduled":
      return onScheduled(first as number, second as string, third as number);
    case "abort":
      return requestWithId(first)?.abort();
    case "expire":
      return requestWithId(first)?.end();
    case "load":
      adoptExports(first as unknown as Record<string, unknown>);
      return endLoad();
    default:
      throw new TypeError(`This engine knows no ${kind} events`);
  }
};

function onFetch(
  id: number,
  method: string,
  url: string,
  headers: string[],
  incoming: [handle: number, length: number] | null,
): void {
  const state = new RequestState(id, url);
  host.setContext(state);
  let body: Body | null = null;
  if (incoming !== null) {
    body = new Body(null);
    body.handle = incoming[0];
  }
  try {
    const request = makeIncomingRequest(method, url, headers, body, state);
    const result = invokeHandler("fetch", request, state);
    if (isResponse(result)) return respond(state, result);
    if (result instanceof Promise) {
      const settled = host.promiseState(result);
      if (settled === FULFILLED) return respond(state, host.promiseResult(result));
      if (settled !== PENDING) {
        // Reported by `fail`; this keeps it from being reported as unhandled too.
        result.catch(() => {});
        return fail(state, host.promiseResult(result));
      }
    }
    register(state);
    Promise.resolve(result).then(
      (response) => respond(state, response),
      (error: unknown) => fail(state, error),
    );
  } catch (error) {
    fail(state, error);
  }
}

function respond(state: RequestState, response: unknown): void {
  if (state.ended) return;
  try {
    if (!isResponse(response)) {
      throw new TypeError("The fetch handler did not return a Response");
    }
    send(state, response);
  } catch (error) {
    fail(state, error);
  }
}

function send(state: RequestState, response: Response): void {
  const status = response.status;
  if (status === 0) throw new TypeError("The fetch handler returned Response.error()");
  const list = responseHeaderList(response);
  const body = takeResponseBody(response);
  if (isReadableStream(body)) {
    host.call(RESPOND, state.id, status, response.statusText, list, true);
    state.answered = true;
    state.outstanding++;
    register(state);
    writeBody(state, body);
    return;
  }
  state.answered = true;
  if (state.outstanding > 0) {
    host.call(RESPOND, state.id, status, response.statusText, list, body);
    register(state);
    return;
  }
  const left = state.close();
  host.call(RESPOND_AND_END, state.id, status, response.statusText, list, body, left);
}

function writeBody(state: RequestState, stream: ReadableStream): void {
  let stopped = false;
  const writer = new HostWriter(stream, RESPONSE_WRITE, state.id, (failure) => {
    if (state.stopBody === null) return;
    state.stopBody = null;
    if (failure === null) {
      if (!state.ended) host.call(RESPONSE_END, state.id, null);
    } else if (!stopped && !state.ended) {
      logError("response body", failure.reason);
      host.call(RESPONSE_END, state.id, describeError(failure.reason)[1]);
    }
    state.settle();
  });
  state.stopBody = (reason) => {
    stopped = true;
    writer.stop(reason);
  };
  writer.begin();
}

function fail(state: RequestState, error: unknown): void {
  if (state.ended) return;
  host.call(FAIL, state.id, ...describeError(error), state.passThrough);
  state.answered = true;
  if (state.outstanding > 0) register(state);
  else state.end();
}

function onScheduled(id: number, cron: string, timeMs: number): void {
  const state = new RequestState(id, "");
  host.setContext(state);
  register(state);
  const controller = { cron, scheduledTime: timeMs, type: "scheduled", noRetry(): void {} };
  state.outstanding++;
  const done = (): void => {
    state.answered = true;
    state.settle();
  };
  try {
    Promise.resolve(invokeHandler("scheduled", controller, state)).then(done, (error: unknown) => {
      state.outstanding--;
      fail(state, error);
    });
  } catch (error) {
    state.outstanding--;
    fail(state, error);
  }
}
