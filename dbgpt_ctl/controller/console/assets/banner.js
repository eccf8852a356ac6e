/** What is not as it should be, above every view: an outage, stale and held states, a degraded registry. */

import { drawByKey, h, setText } from "./elements.js";
import { escaped } from "./escaping.js";
import { durationText, localText } from "./time.js";

/** @import { Status, SharingController } from "./types.js" */

/** @typedef {{key: string, severity: "error" | "warning", text: string, links?: SharingController[]}} Notice */

/**
 * The notices now.
 *
 * @param {import("./inventory.js").Inventory} inventory
 * @param {import("./watch.js").Watch} watch
 * @param {Status | null} status
 * @returns {Notice[]}
 */
export function notices(inventory, watch, status) {
  /** @type {Notice[]} */
  const found = [];
  const failure = watch.failure ?? inventory.failure;
  if (failure && failure.status === 0) found.push(outage(watch, inventory, status));
  else if (failure && failure.status !== 401) found.push({ key: "failure", severity: "error", text: `${escaped(failure.message)}.` });
  if (status?.controller.leaving) found.push({ key: "leaving", severity: "warning", text: "This controller is about to end. Use another one.", links: others(status) });
  const stale = inventory.staleSince ?? status?.stale_since;
  if (stale) found.push({ key: "stale", severity: "error", text: `The registry cannot be read. All states are as of ${localText(stale)} and may be wrong now.` });
  const held = inventory.heldUntil ?? status?.held_until;
  if (held) found.push({ key: "held", severity: "warning", text: `The registry was away, and heartbeats could not arrive: states marked “held” are kept as they were until ${localText(held)}.` });
  if (status?.registry.reason && !stale) found.push({ key: "degraded", severity: "warning", text: `Degraded: ${escaped(status.registry.reason)}.` });
  return found;
}

/**
 * @param {import("./watch.js").Watch} watch
 * @param {import("./inventory.js").Inventory} inventory
 * @param {Status | null} status
 * @returns {Notice}
 */
function outage(watch, inventory, status) {
  const ago = durationText((Date.now() - watch.lastSeen) / 1000);
  const shown = inventory.loaded ? " What is shown is the last that is known." : "";
  return {
    key: "outage", severity: "error", links: others(status),
    text: `This controller does not answer; it was last seen ${ago} ago.${shown} The page tries again by itself.`,
  };
}

/** @param {Status | null} status */
function others(status) {
  return (status?.controllers ?? []).filter((each) => new URL(each.address).host !== location.host);
}

/**
 * Draws them; screen readers hear a new one.
 *
 * @param {HTMLElement} element
 * @param {Notice[]} shown
 */
export function drawNotices(element, shown) {
  drawByKey(element, shown, (notice) => notice.key, (notice, before) => {
    const row = before ?? h("div", {}, h("p"), h("p", { class: "links" }));
    row.className = `notice ${notice.severity}`;
    setText(/** @type {Element} */ (row.firstElementChild), notice.text);
    drawByKey(/** @type {Element} */ (row.lastElementChild), notice.links ?? [], (each) => each.id, (each, link) =>
      link ?? h("a", { href: `${each.address}/console/`, rel: "noreferrer" }, `Console of ${escaped(each.address)}`));
    return row;
  });
}
