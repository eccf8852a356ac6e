/** Events in words, as columns of a table, and the four groups that they are counted in. */

import { drawOnChange, h } from "./elements.js";
import { escaped } from "./escaping.js";
import { instanceHref, referenceText } from "./reference.js";
import { timeElement } from "./time.js";

/** @import { Change } from "./types.js" */
/** @typedef {"unhealthy" | "healthy" | "drain" | "membership"} Group */

/** What the groups are called. */
export const GROUPS = {
  unhealthy: "to unhealthy", healthy: "to healthy", drain: "drained or undrained", membership: "registered or removed",
};

/**
 * @param {Change} change
 * @returns {Group}
 */
export function groupOf({ old, new: state }) {
  if (old === state) return "drain";
  if ([old, state].some((each) => each === "absent" || each === "deregistered")) return "membership";
  return state === "unhealthy" ? state : "healthy";
}

/**
 * `healthy → unhealthy`, `registered, drained`; with the reason, if there is one: `drained: new driver`.
 *
 * @param {Change} change
 */
export function changeText({ old, new: state, drained, verb, actor, reason }) {
  const why = verb === "undrain" && actor === "expiry" ? "its time was over" : reason;
  let text = old === "absent" ? "registered" : state === "absent" ? "removed" : `${old} → ${state}`;
  if (old === state) text = drained ? "drained" : "undrained";
  else if (drained) text += ", drained";
  return escaped(why ? `${text}: ${why}` : text);
}

/**
 * `operator anna (10.0.0.9)`, as far as each is known.
 *
 * @param {Change} change
 */
export function actorText({ actor, actor_name, address }) {
  return escaped([actor, actor_name, address && (actor_name ? `(${address})` : address)].filter(Boolean).join(" "));
}

/** @type {Record<string, (event: Change) => Node | string>} */
const CELLS = {
  Time: ({ time }) => timeElement(time, "local"),
  Instance: (event) => h("a", { href: instanceHref(event) }, referenceText(event)),
  "What happened": (event) => h("span", { class: `change ${groupOf(event)}` }, changeText(event)),
  Verb: ({ verb }) => escaped(verb),
  By: actorText,
};

/** @type {import("./table.js").Column<Change>[]} An event never changes, so its cells are drawn once. */
export const EVENT_COLUMNS = Object.entries(CELLS).map(([name, content]) =>
  ({ id: name.split(" ")[0].toLowerCase(), name, fill: (cell, event) => drawOnChange(cell, "", () => [content(event)]) }));
