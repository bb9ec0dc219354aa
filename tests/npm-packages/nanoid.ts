import { equal, match } from "node:assert/strict";
import { customAlphabet, nanoid, urlAlphabet } from "nanoid";
import { nanoid as nonSecure } from "nanoid/non-secure";
import { program } from "./program";

const digits = customAlphabet("0123456789", 20);

export default program(
  () => {
    match(nanoid(), /^[\w-]{21}$/);
    match(nanoid(40), /^[\w-]{40}$/);
    match(digits(), /^\d{20}$/);
    equal(urlAlphabet.length, 64);
    const many = new Set(Array.from({ length: 10_000 }, () => nanoid(12)));
    equal(many.size, 10_000);
  },
  () => [nanoid(), digits(), nonSecure()],
);
