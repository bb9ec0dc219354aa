// navigator: by its userAgent, programs tell where they run.
// https://min-common-api.proposal.wintertc.org/#navigator-useragent-requirements

import { finishInterface } from "./interface.js";

let constructible = true;

export class Navigator {
  constructor() {
    if (!constructible) throw new TypeError("Illegal constructor");
  }

  get userAgent(): string {
    return "Squall";
  }
}

finishInterface(Navigator);
export const navigator = new Navigator();
constructible = false;
