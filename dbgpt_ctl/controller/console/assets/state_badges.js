/** The state of an instance as a word with a shape. A drain, a hold and a stale list stand beside it and never hide it. */

import { h } from "./elements.js";

/** @import { Instance } from "./types.js" */

/**
 * @param {Instance} instance
 * @param {boolean} stale  whether the whole list is
 */
export function stateSignature({ state, held, drain }, stale) {
  return `${state} ${held} ${drain !== null} ${stale}`;
}

/**
 * @param {Instance} instance
 * @param {boolean} stale
 */
export function stateBadges({ state, held, drain }, stale) {
  const beside = [held && "held", drain && "drained", stale && "stale"].filter((word) => typeof word === "string");
  return [
    h("span", { class: `state ${state}` }, state),
    ...beside.flatMap((word) => [" ", h("span", { class: `badge ${word}` }, word)]),
  ];
}
