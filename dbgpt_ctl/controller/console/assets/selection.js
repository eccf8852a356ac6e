/** The chosen instances, by key, and the bar that says how many there are and what can be done with them. */

import { numberText } from "./counts.js";
import { h, setText } from "./elements.js";
import { addressText } from "./reference.js";

/** @import { Instance } from "./types.js" */
/** @import { Entry } from "./instance_order.js" */
/** @import { Verb } from "./drain_dialog.js" */
/** @import { Column } from "./table.js" */

/** Which instances are chosen. It survives updates, other pages and other filters. */
export class Selection {
  /** @type {Set<string>} */
  keys = new Set();
  /** @type {Entry[]} */
  #matching = [];
  /** @type {Entry[]} */
  #page = [];
  /** @type {string | null} */
  #last = null;
  #change;
  #text = h("span");
  /** A button that was pressed may be disabled now, so the focus goes on. */
  #all = h("button", { type: "button", click: () => (this.#choose(this.#matching, true), this.#drain.focus()) });
  #none = h("button", { type: "button", click: () => (this.remove(this.keys), this.#all.focus()) }, "Clear");
  #drain;
  #undrain;
  #pageBox = h("input", { type: "checkbox", "aria-label": "Select this page", change: () => this.#choose(this.#page, this.#pageBox.checked) });

  /**
   * @param {() => void} change  called when a person chose
   * @param {(verb: Verb) => void} act
   */
  constructor(change, act) {
    this.#change = change;
    this.#drain = h("button", { type: "button", class: "primary", click: () => act("drain") }, "Drain…");
    this.#undrain = h("button", { type: "button", click: () => act("undrain") }, "Undrain…");
    this.element = h("div", { class: "selection", role: "group", "aria-label": "Selection" }, this.#text, this.#none, this.#drain, this.#undrain, this.#all);
  }

  /** @param {ReadonlySet<string>} keys */
  remove(keys) {
    for (const key of keys) this.keys.delete(key);
    this.#change();
  }

  /**
   * Forgets instances that are gone.
   *
   * @param {ReadonlyMap<string, Instance>} instances
   */
  prune(instances) {
    for (const key of this.keys) if (!instances.has(key)) this.keys.delete(key);
  }

  /** @returns {Column<Entry>} */
  column() {
    return { id: "select", name: "", head: check(this.#pageBox), fill: (cell, entry) => this.#fill(cell, entry) };
  }

  /**
   * @param {Entry[]} matching
   * @param {Entry[]} page  those of them that are drawn
   * @param {ReadonlyMap<string, Instance>} instances
   */
  draw(matching, page, instances) {
    [this.#matching, this.#page] = [matching, page];
    const shown = matching.reduce((count, { key }) => count + Number(this.keys.has(key)), 0);
    const onPage = page.reduce((count, { key }) => count + Number(this.keys.has(key)), 0);
    const hidden = this.keys.size - shown;
    const beside = hidden ? ` (${numberText(hidden)} not in the filter)` : "";
    setText(this.#text, `${numberText(this.keys.size)} selected${beside}`);
    setText(this.#all, `Select all ${numberText(matching.length)}`);
    this.#all.disabled = shown === matching.length;
    this.#none.disabled = this.#drain.disabled = this.keys.size === 0;
    this.#undrain.disabled = ![...this.keys].some((key) => instances.get(key)?.drain);
    this.#pageBox.checked = onPage > 0 && onPage === page.length;
    this.#pageBox.indeterminate = onPage > 0 && onPage < page.length;
  }

  /**
   * @param {HTMLElement} cell
   * @param {Entry} entry
   */
  #fill(cell, { key, instance }) {
    let box = cell.querySelector("input");
    if (!box) {
      box = h("input", { type: "checkbox", "aria-label": `Select ${addressText(instance)}`, click: (/** @type {MouseEvent} */ event) => this.#click(key, event) });
      cell.append(check(box));
    }
    box.checked = this.keys.has(key);
  }

  /**
   * A click with Shift chooses all from the last one to this one.
   *
   * @param {string} key
   * @param {MouseEvent} event
   */
  #click(key, event) {
    const { checked } = /** @type {HTMLInputElement} */ (event.target);
    const [from, to] = [this.#last, key].map((each) => this.#page.findIndex((entry) => entry.key === each));
    this.#last = key;
    const start = event.shiftKey && from >= 0 ? from : to;
    this.#choose(this.#page.slice(Math.min(start, to), Math.max(start, to) + 1), checked);
  }

  /**
   * @param {Entry[]} entries
   * @param {boolean} chosen
   */
  #choose(entries, chosen) {
    for (const { key } of entries) this.keys[chosen ? "add" : "delete"](key);
    this.#change();
  }
}

/**
 * The label makes the place to touch larger than the box.
 *
 * @param {HTMLInputElement} box
 */
function check(box) {
  return h("label", { class: "check" }, box);
}
