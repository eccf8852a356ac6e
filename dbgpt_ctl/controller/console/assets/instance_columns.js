/** The columns of the table of instances. */

import { drawOnChange, h, setText } from "./elements.js";
import { escaped } from "./escaping.js";
import { nameAndType } from "./inventory.js";
import { addressText, instanceHref } from "./reference.js";
import { stateBadges, stateSignature } from "./state_badges.js";
import { timeElement } from "./time.js";

/** @import { Instance } from "./types.js" */
/** @import { Column } from "./table.js" */

/**
 * @param {() => boolean} stale  whether the list is
 * @returns {Column<Instance>[]}
 */
export function instanceColumns(stale) {
  return [
    {
      id: "state", name: "State", sort: "state",
      fill: (cell, instance) => drawOnChange(cell, stateSignature(instance, stale()), () => stateBadges(instance, stale())),
    },
    { id: "model", name: "Model", sort: "model", fill: (cell, { model_name }) => setText(cell, escaped(nameAndType(model_name)[0])) },
    { id: "type", name: "Type", sort: "type", fill: (cell, { model_name }) => setText(cell, escaped(nameAndType(model_name)[1])) },
    {
      id: "host", name: "Host and port", sort: "host", names: true,
      fill: (cell, instance) => drawOnChange(cell, "", () => [h("a", { href: instanceHref(instance) }, addressText(instance))]),
    },
    { id: "weight", name: "Weight", sort: "-weight", fill: (cell, { weight }) => setText(cell, String(weight)) },
    {
      id: "heartbeat", name: "Last heartbeat", sort: "heartbeat",
      fill: (cell, { last_heartbeat }) => drawOnChange(cell, last_heartbeat, () => [timeElement(last_heartbeat)]),
    },
    {
      id: "drain", name: "Drained", sort: "-drain",
      fill: (cell, { drain }) => drawOnChange(cell, JSON.stringify(drain), () => drainTexts(drain)),
    },
    { id: "flaps", name: "Flaps", sort: "-flaps", fill: (cell, { flaps }) => setText(cell, flaps ? String(flaps) : "") },
  ];
}

/**
 * Since when, by whom, why and until when.
 *
 * @param {import("./types.js").Drain | null} drain
 * @returns {import("./elements.js").Child[]}
 */
export function drainTexts(drain) {
  if (!drain) return [];
  const { since, by, reason, until } = drain;
  return [
    reason && h("span", { class: "line" }, escaped(reason)),
    h("span", { class: "line muted" },
      since ? timeElement(since) : "since its first register", by && ` by ${escaped(by)}`,
      ...(until ? [", ends ", timeElement(until)] : [", no end"])),
  ];
}
