// Parses and stringifies a document of about 100 kB: one that arrives with the request and
// leaves with the answer, or one that the function holds, so that nothing but the engine works.

const HELD = JSON.stringify(
  Array.from({ length: 400 }, (_, id) => ({
    id,
    key: `item-${id}`,
    title: `The "title" of item ${id}`,
    price: (id * 7919) % 10000 / 100,
    available: id % 3 === 0,
    tags: ["alpha", "beta", `group-${id % 12}`],
    size: { width: id % 40, height: id % 25, unit: "mm" },
    note: id % 5 === 0 ? null : "Stored dry, shipped by the dozen, tested by hand.",
  })),
);

export default {
  async fetch(request) {
    if (request.method === "POST") {
      return Response.json(await request.json());
    }
    const text = JSON.stringify(JSON.parse(HELD));
    return Response.json({ same: text === HELD, characters: text.length });
  },
};
