/**
 * How the controllers and their registry are. What is not as it should be is above every view: an outage, stale and held
 * states, a degraded registry.
 */

import { drawByKey, drawOnChange, h, part, setText } from "./elements.js";
import { escaped } from "./escaping.js";
import { durationText, localText, timeElement } from "./time.js";

/** @import { Status, SharingController } from "./types.js" */

/** The checks of a hold and of the end of a controller: they have notices of their own. */
const TOLD = ["pulse", "shutdown"];

/** @typedef {{key: string, severity: "error" | "warning", text: string, ago?: string, rest?: string, links?: SharingController[]}} Notice */

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
  if (failure && failure.status !== 401) found.push(outage(failure, watch, inventory, status));
  if (status?.controller.leaving) found.push({ key: "leaving", severity: "warning", text: "This controller is about to end. Use another one.", links: others(status) });
  const stale = inventory.staleSince ?? status?.stale_since;
  if (stale) found.push({ key: "stale", severity: "error", text: `The registry cannot be read. All states are as of ${localText(stale)} and may be wrong now.` });
  const held = inventory.heldUntil ?? status?.held_until;
  if (held) found.push({ key: "held", severity: "warning", text: `The registry was away, and heartbeats could not arrive: states marked “held” are kept as they were until ${localText(held)}.` });
  const failed = (status?.checks ?? []).filter(({ name, detail }) => detail && !TOLD.includes(name));
  if (failed.length && !stale) found.push({ key: "degraded", severity: "warning", text: `Degraded: ${escaped(failed.map(({ detail }) => detail).join("; "))}.` });
  return found;
}

/**
 * @param {import("./api.js").ApiError} failure  without a status where no answer came; a proxy may answer in its place
 * @param {import("./watch.js").Watch} watch
 * @param {import("./inventory.js").Inventory} inventory
 * @param {Status | null} status
 * @returns {Notice}
 */
function outage(failure, watch, inventory, status) {
  const how = failure.status ? ` as it should (${escaped(failure.message)})` : "";
  const shown = inventory.loaded ? " What is shown is the last that is known." : "";
  const links = others(status);
  return {
    key: "outage", severity: "error", links,
    text: `This controller does not answer${how}; it was last seen `, ago: durationText((Date.now() - watch.lastSeen) / 1000),
    rest: ` ago.${shown} The page tries again by itself${links.length ? ", or use another controller:" : "."}`,
  };
}

/**
 * Draws them; screen readers hear a new one, and not each second of it.
 *
 * @param {HTMLElement} element
 * @param {Notice[]} shown
 */
export function drawNotices(element, shown) {
  drawByKey(element, shown, (notice) => notice.key, (notice, before) => {
    const row = before ?? h("div", { class: `notice ${notice.severity}` }, h("p", {}, h("span"), h("span", { "aria-live": "off" }), h("span")), h("p", { class: "links" }));
    const [text, links] = row.children;
    [notice.text, notice.ago, notice.rest].forEach((part, index) => setText(text.children[index], part ?? ""));
    drawByKey(links, notice.links ?? [], (each) => each.id, (each, link) => link ?? consoleLink(each));
    return row;
  });
}

/**
 * The others, without the one that serves this page. Behind a proxy its address is not known.
 *
 * @param {Status | null} status
 */
export function others(status) {
  return (status?.controllers ?? []).filter(({ address }) => !isUrl(address) || new URL(address).host !== location.host);
}

/** @param {SharingController} controller */
function consoleLink({ address }) {
  return isUrl(address) ? h("a", { href: `${address}/console/`, rel: "noreferrer" }, escaped(address)) : h("span", {}, escaped(address));
}

/**
 * Whether it can be a link. Any program that can write to the database names an address.
 *
 * @param {string} address
 */
function isUrl(address) {
  return /^https?:/.test(address) && URL.canParse(address);
}

/** A part of a view. */
export function controllersList() {
  const list = h("ul", { class: "plain" });
  const registry = h("p");
  return { element: part("Controllers", list, registry), draw };

  /** @param {Status | null} status */
  function draw(status) {
    if (!status) return;
    const facts = { ...status.controller, id: "", address: location.origin, seen_at: status.time };
    const alone = /** @type {SharingController} */ (/** @type {unknown} */ (facts)); // all that is drawn here
    const elsewhere = others(status);
    drawByKey(list, status.controllers.length ? status.controllers : [alone], ({ id }) => id, (each, before) => {
      const row = before ?? h("li", {}, elsewhere.includes(each) ? consoleLink(each) : h("b", {}, `${escaped(each.address)} (this one)`), h("p", { class: "muted" }));
      drawOnChange(row.children[1], JSON.stringify(each), () =>
        [`version ${escaped(each.version)}, started `, timeElement(each.started_at), ", seen ", timeElement(each.seen_at)]);
      return row;
    });
    setText(registry, `Registry: ${registryText(status)}`);
  }
}

/** @param {Status} status */
export function registryText({ stale_since, held_until, registry: { kind, place, durable, reason } }) {
  const health = stale_since ? "cannot be read now" : held_until ? "states are held" : reason && `degraded: ${reason}`;
  return escaped([kind, place, durable ? "durable" : "in memory only: a restart forgets drains and events", health].filter(Boolean).join(", "));
}
