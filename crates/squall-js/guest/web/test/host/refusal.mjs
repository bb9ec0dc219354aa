/** What an operation throws to be refused: a DOMException's name, TypeError, RangeError or Error. */
export class Refusal extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}
