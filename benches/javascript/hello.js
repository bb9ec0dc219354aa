// The smallest answer in JSON. Copies of it with another name are distinct functions.

export default {
  fetch() {
    return Response.json({ hello: "world" });
  },
};
