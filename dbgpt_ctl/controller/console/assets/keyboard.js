/** The keys of the page: `/` goes to the filter, `?` lists the keys, a letter after `g` goes to a view. */

import { h } from "./elements.js";
import { hrefOf, navigate } from "./location.js";

/** @type {Record<string, import("./location.js").ViewName>} */
const PLACES = { o: "", i: "instances", e: "events", c: "controller" };
const KEYS = [
  ["/", "Go to the filter"], ["Esc", "Leave the filter, close a dialog"], ["g o", "Overview"], ["g i", "Instances"],
  ["g e", "Events"], ["g c", "This controller"], ["?", "Show these keys"],
];
const TYPED = "input:not([type=checkbox]), textarea, select, [contenteditable]";

/** @param {() => HTMLInputElement | undefined} filter  of the view that is shown */
export function listenToKeys(filter) {
  const help = helpDialog();
  document.body.append(help);
  let went = false;
  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (target.matches(TYPED)) {
      if (event.key === "Escape" && target === filter()) /** @type {HTMLElement} */ (target).blur();
      return;
    }
    const place = went ? PLACES[event.key] : undefined;
    went = event.key === "g";
    if (place !== undefined) navigate(hrefOf(place));
    else if (event.key === "/" && filter()) filter()?.focus();
    else if (event.key === "?") help.showModal();
    else return;
    event.preventDefault();
  });
}

function helpDialog() {
  const rows = KEYS.map(([key, does]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, key)), h("td", {}, does)));
  return h(
    "dialog", { "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    h("table", { class: "plain" }, h("tbody", {}, ...rows)),
    h("form", { method: "dialog", class: "buttons" }, h("button", {}, "Close")),
  );
}
