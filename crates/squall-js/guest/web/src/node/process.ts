// node:process: the environment, and the little else that programs ask of it everywhere. There
// is no versions.node, by which programs would take this for Node.js.

import { console } from "../console.js";
import { processEnv } from "../env.js";
import { host } from "../host.js";
import { MONOTONIC_CLOCK } from "../ops.js";
import { reportException } from "../report.js";
import { type AnyFunction, callbackFunction } from "../webidl.js";
import { EventEmitter } from "./events.js";

const settled = Promise.resolve();

/** Nanoseconds since the instance began. */
function nanoseconds(): bigint {
  return BigInt(Math.round((host.call(MONOTONIC_CLOCK) as number) * 1e6));
}

function hrtime(since: [number, number] | undefined = undefined): [number, number] {
  const elapsed = nanoseconds() - (since === undefined ? 0n : BigInt(since[0]) * 1_000_000_000n + BigInt(since[1]));
  return [Number(elapsed / 1_000_000_000n), Number(elapsed % 1_000_000_000n)];
}
hrtime.bigint = nanoseconds;

class Process extends EventEmitter {
  readonly env = processEnv;
  readonly argv: string[] = [];
  readonly argv0 = "";
  readonly execArgv: string[] = [];
  readonly title = "squall";
  readonly platform = "linux";
  readonly arch = "wasm32";
  readonly pid = 1;
  readonly version = "";
  readonly versions = {};
  readonly release = { name: "squall" };
  exitCode: number | undefined = undefined;
  readonly hrtime = hrtime;

  nextTick(callback: unknown, ...values: unknown[]): void {
    const task: AnyFunction = callbackFunction(callback, "The argument of process.nextTick");
    void settled.then(() => {
      try {
        task(...values);
      } catch (error) {
        reportException(error);
      }
    });
  }

  cwd(): string {
    return "/";
  }

  uptime(): number {
    return (host.call(MONOTONIC_CLOCK) as number) / 1000;
  }

  emitWarning(warning: unknown): void {
    console.warn(warning instanceof Error ? warning : `Warning: ${String(warning)}`);
  }

  exit(): never {
    throw new Error("process.exit is not offered by this runtime: a request ends when its handler returns");
  }
}

export const process = new Process();
Object.defineProperty(process, Symbol.toStringTag, { value: "process", configurable: true });

const exports: Record<string, unknown> = { default: process };
for (const name of ["env", "argv", "argv0", "execArgv", "title", "platform", "arch", "pid", "version", "versions", "release", "hrtime"]) {
  exports[name] = process[name as keyof Process];
}
for (const name of ["nextTick", "cwd", "uptime", "emitWarning", "exit", "on", "once", "off", "emit"] as const) {
  exports[name] = (process[name] as AnyFunction).bind(process);
}
host.registerModule("node:process", exports);
