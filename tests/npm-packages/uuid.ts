import { equal, match, ok } from "node:assert/strict";
import * as uuid from "uuid";
import { program } from "./program";

const page = uuid.v5("https://example.com/page", uuid.v5.URL);

export default program(
  () => {
    match(uuid.v4(), /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
    equal(uuid.v5("hello.example.com", uuid.v5.DNS), "fdda765f-fc57-5604-a269-52a7df8164ec");
    equal(uuid.v3("hello.example.com", uuid.v3.DNS), "9125a8dc-52ee-365b-a5aa-81b0b3681cf6");
    equal(page, uuid.v5("https://example.com/page", uuid.v5.URL));
    equal(uuid.version(uuid.v1()), 1);
    equal(uuid.stringify(uuid.parse(page)), page);
    equal(uuid.validate("not a uuid"), false);
    const sorted = Array.from({ length: 100 }, () => uuid.v7());
    ok(sorted.every((id, index) => index === 0 || sorted[index - 1]! < id), "v7 is in order");
  },
  () => [uuid.v1(), uuid.v4(), uuid.v6(), uuid.v7()],
);
