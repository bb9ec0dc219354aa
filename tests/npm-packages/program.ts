// What every program here has in common: `/` runs its checks, `/values` answers with values that no
// other instance may have, and SNAPSHOT makes two deployments of it two snapshots.

type Checks = () => unknown;
type Values = () => unknown[] | Promise<unknown[]>;

export function program(checks: Checks, values: Values = () => []): { fetch(request: Request): Promise<Response> } {
  return {
    async fetch(request) {
      if (new URL(request.url).pathname === "/values") {
        return Response.json([...(await values()), Math.random(), performance.timeOrigin + performance.now(), crypto.randomUUID()]);
      }
      await checks();
      return new Response("well");
    },
  };
}

/** Whether something throws, and what. */
export async function thrownBy(work: () => unknown): Promise<Error> {
  try {
    await work();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}
