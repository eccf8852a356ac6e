/** @import { Context, View } from "../types.js" */
/** @import { InstanceFilter } from "../instance_filter.js" */
/** @import { Entry } from "../instance_order.js" */

import { countText, numberText } from "../counts.js";
import { DrainDialog } from "../drain_dialog.js";
import { TYPING_MILLIS, drawOnChange, h, setText } from "../elements.js";
import { escaped } from "../escaping.js";
import { FilterForm } from "../filter_form.js";
import { instanceColumns } from "../instance_columns.js";
import { cleared, filterOf, matcher, paramsOf, sortBy } from "../instance_filter.js";
import { InstanceOrder } from "../instance_order.js";
import { hrefOf, navigate } from "../location.js";
import { Selection } from "../selection.js";
import { Table, pager } from "../table.js";

const PAGE_SIZE = 100;
/** A screen reader hears the counts after so long a pause, and only where a person changed the filter. */
const TELL_MILLIS = 700;

/**
 * The instances: filtered, sorted, a page at a time; and drains of those that are chosen.
 *
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  return new InstancesView(context);
}

/** @implements {View} */
class InstancesView {
  title = "Instances";
  #context;
  #filter;
  #order = new InstanceOrder();
  #form;
  #table;
  #pager = pager((page) => this.#goToPage(page));
  #heading = h("h1", { tabindex: -1 }, "Instances");
  #counts = h("p", { class: "counts" });
  #told = h("p", { class: "visually-hidden", role: "status" });
  #message = h("p", { class: "message", role: "status" });
  #empty = h("div", { class: "empty" });
  /** @type {Selection | null} */
  #selection = null;
  /** @type {DrainDialog | null} */
  #dialog = null;
  #typing = 0;
  #telling = 0;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.#filter = filterOf(context.params);
    this.#form = new FilterForm(this.#filter, (filter, typing) => this.#change(filter, typing));
    if (context.who.may_change) {
      this.#selection = new Selection(() => this.#draw(), (verb) => this.#dialog?.open(verb, this.#selection?.keys ?? []));
      this.#dialog = new DrainDialog(context.inventory, (changed, message) => this.#done(changed, message));
    }
    /** @type {import("../table.js").Column<Entry>[]} */
    const columns = instanceColumns(() => context.inventory.staleSince !== null)
      .map((column) => ({ ...column, fill: (cell, { instance }) => column.fill(cell, instance) }));
    if (this.#selection) columns.unshift(this.#selection.column());
    this.#table = new Table("Instances", columns, ({ key }) => key, (sort) => this.#go({ ...this.#filter, sort, page: 1 }));
    this.#order.filter(matcher(this.#filter));
    sortBy(this.#order, this.#filter);
    this.element = h(
      "section", { class: "instances" },
      this.#heading, this.#form.element,
      context.who.read_only_reason && h("p", { class: "muted" }, escaped(context.who.read_only_reason)),
      this.#message, this.#counts, this.#told, this.#selection?.element, this.#table.element, this.#empty, this.#pager.element, this.#dialog?.element,
    );
  }

  get filter() {
    return this.#form.text;
  }

  /** @param {ReadonlySet<string> | null} changed */
  update(changed) {
    const { instances } = this.#context.inventory;
    if (this.#order.update(instances, changed)) {
      this.#form.offer(instances);
      this.#selection?.prune(instances);
    }
    this.#draw();
    if (this.#dialog?.element.open) this.#dialog.update();
  }

  /** @param {URLSearchParams} params */
  navigate(params) {
    clearTimeout(this.#typing);
    this.#apply(filterOf(params));
  }

  close() {
    clearTimeout(this.#typing);
    clearTimeout(this.#telling);
    this.#dialog?.close();
  }

  /**
   * @param {InstanceFilter} filter
   * @param {boolean} typing
   */
  #change(filter, typing) {
    clearTimeout(this.#typing);
    if (!typing) return this.#go(filter);
    this.#apply(filter);
    this.#typing = setTimeout(() => this.#go(filter, true), TYPING_MILLIS);
  }

  /**
   * @param {InstanceFilter} filter
   * @param {boolean} [replace]
   */
  #go(filter, replace = false) {
    const href = hrefOf("instances", paramsOf(filter));
    if (new URL(href, location.href).href !== location.href) navigate(href, { replace });
  }

  /** @param {number} page */
  #goToPage(page) {
    this.#go({ ...this.#filter, page });
    this.#counts.scrollIntoView({ block: "nearest" });
    this.#keepFocus();
  }

  /** @param {InstanceFilter} filter */
  #apply(filter) {
    const before = this.#filter;
    this.#filter = filter;
    if (before.sort !== filter.sort) sortBy(this.#order, filter);
    this.#order.filter(matcher(filter));
    this.#form.show(filter);
    this.#draw();
    clearTimeout(this.#telling);
    this.#telling = setTimeout(() => setText(this.#told, this.#counts.textContent ?? ""), TELL_MILLIS);
  }

  #draw() {
    const { inventory } = this.#context;
    const { matching } = this.#order;
    const pages = Math.max(1, Math.ceil(matching.length / PAGE_SIZE));
    const page = Math.min(this.#filter.page, pages);
    const rows = matching.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE);
    this.#table.draw(rows, this.#filter.sort);
    this.#table.element.hidden = rows.length === 0;
    this.#pager.draw(page, pages);
    setText(this.#counts, countsText(matching, inventory.instances.size));
    this.#selection?.draw(matching, rows, inventory.instances);
    for (const part of [this.#counts, this.#selection?.element]) if (part) part.hidden = inventory.instances.size === 0;
    this.#drawEmpty();
  }

  #drawEmpty() {
    const { failure, instances, loaded } = this.#context.inventory;
    const { matching } = this.#order;
    const what = matching.length ? "rows" : instances.size ? "no match" : loaded ? "none" : failure ? `failure ${failure.message}` : "loading";
    this.#empty.hidden = what === "rows";
    drawOnChange(this.#empty, what, () => {
      if (what === "no match") return [h("p", {}, "No instance matches the filter."), this.#clearButton()];
      if (what === "none") return howToRegister();
      if (what === "loading") return [h("p", {}, "Loading the instances…")];
      return [h("p", {}, `The instances cannot be loaded: ${escaped(failure?.message ?? "")}. The page tries again by itself.`)];
    });
  }

  #clearButton() {
    return h("button", { type: "button", click: () => this.#clear() }, "Clear the filter");
  }

  #clear() {
    this.#go(cleared(this.#filter));
    this.#form.text.focus();
  }

  /**
   * @param {ReadonlySet<string>} changed
   * @param {string} message
   */
  #done(changed, message) {
    setText(this.#message, message);
    this.#selection?.remove(changed);
    this.#keepFocus();
  }

  /** What had the focus may be disabled now. */
  #keepFocus() {
    if (document.activeElement?.matches("body, :disabled")) this.#heading.focus();
  }
}

/**
 * @param {Entry[]} matching
 * @param {number} all
 */
function countsText(matching, all) {
  const routable = matching.reduce((count, { instance }) => count + Number(instance.routable), 0);
  const of = matching.length === all ? "" : `${numberText(matching.length)} of `;
  return `${of}${countText(all, "instance")}, ${numberText(routable)} routable`;
}

/** What is shown while there are none. */
export function howToRegister() {
  const address = new URL("../", location.href).href.replace(/\/$/, "");
  return [
    h("p", {}, "No instance is registered. A model worker registers itself when it starts with the address of this controller in its settings:"),
    h("p", {}, h("code", {}, `controller_addr = "${address}"`)),
    h("p", {}, h("code", {}, "ctl models register NAME/HOST:PORT"), " registers one by hand."),
  ];
}
