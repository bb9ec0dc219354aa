import { deepEqual, equal, ok } from "node:assert/strict";
import { z } from "zod";
import { program, thrownBy } from "./program";

const Address = z.object({ street: z.string().min(1), zip: z.string().regex(/^\d{5}$/) });
const Order = z
  .object({
    id: z.uuid(),
    email: z.email().toLowerCase(),
    items: z.array(z.object({ sku: z.string(), count: z.coerce.number().int().positive() })).nonempty(),
    address: Address.optional(),
    placed: z.iso.datetime().transform((text) => new Date(text)),
    kind: z.discriminatedUnion("type", [
      z.object({ type: z.literal("gift"), message: z.string() }),
      z.object({ type: z.literal("plain") }),
    ]),
    note: z.string().default("none"),
  })
  .strict()
  .refine((order) => order.items.length < 3, { message: "too many items", path: ["items"] });

type Order = z.infer<typeof Order>;

const input = {
  id: "0b7a9a3e-5f0e-4f7c-9a63-2f1d7c1e0a55",
  email: "Ada@Example.COM",
  items: [{ sku: "a", count: "2" }],
  placed: "2024-02-29T12:30:45Z",
  kind: { type: "gift", message: "hello" },
};

export default program(async () => {
  const order: Order = Order.parse(input);
  equal(order.email, "ada@example.com");
  equal(order.items[0]!.count, 2);
  equal(order.placed.getTime(), Date.UTC(2024, 1, 29, 12, 30, 45));
  equal(order.note, "none");

  const wrong = Order.safeParse({ ...input, email: "nobody", items: [], kind: { type: "other" }, more: 1 });
  equal(wrong.success, false);
  const places = wrong.error!.issues.map((issue) => issue.path.join("."));
  for (const place of ["email", "items", "kind.type"]) ok(places.includes(place), `${places}`);
  const many = Order.safeParse({ ...input, items: [1, 2, 3].map((sku) => ({ sku: `${sku}`, count: 1 })) });
  deepEqual(many.error!.issues.map((issue) => issue.message), ["too many items"]);

  const asynchronous = z.string().refine(async (text) => text === "right");
  equal(await asynchronous.parseAsync("right"), "right");
  ok((await thrownBy(() => asynchronous.parseAsync("wrong"))) instanceof z.ZodError);
  deepEqual(z.toJSONSchema(Address).required, ["street", "zip"]);
});
