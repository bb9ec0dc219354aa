// Checks a list of people field by field, and answers with it in order.

const ADDRESS = /^[a-z0-9.]+@[a-z0-9-]+(\.[a-z0-9-]+)+$/;
const ROLES = ["reader", "writer", "owner"];

export default {
  async fetch(request) {
    const people = await request.json();
    if (!Array.isArray(people)) {
      return Response.json({ error: "A list is needed" }, { status: 400 });
    }
    const problems = people.flatMap((person, index) =>
      problemsOf(person).map((field) => ({ index, field })),
    );
    if (problems.length > 0) {
      return Response.json({ problems }, { status: 400 });
    }
    people.sort(byScoreThenName);
    return Response.json({ count: people.length, people });
  },
};

function problemsOf(person) {
  const { id, name, email, score, role, tags } = person;
  const problems = [];
  if (!Number.isInteger(id) || id < 1) problems.push("id");
  if (typeof name !== "string" || name.length < 2 || name.length > 80) problems.push("name");
  if (typeof email !== "string" || !ADDRESS.test(email)) problems.push("email");
  if (typeof score !== "number" || score < 0 || score > 100) problems.push("score");
  if (!ROLES.includes(role)) problems.push("role");
  if (!Array.isArray(tags) || !tags.every((tag) => typeof tag === "string")) problems.push("tags");
  return problems;
}

function byScoreThenName(one, other) {
  if (one.score !== other.score) return other.score - one.score;
  return one.name < other.name ? -1 : one.name > other.name ? 1 : 0;
}
