/** What a person wants to know first: is anything wrong, and which models get requests. */

import { controllersList } from "../banner.js";
import { countText } from "../counts.js";
import { drawOnChange, field, h, part, searchInput, setText } from "../elements.js";
import { escaped } from "../escaping.js";
import { nameAndType } from "../inventory.js";
import { hrefOf, navigate } from "../location.js";
import { COUNTED, ModelCounts, urgency } from "../model_counts.js";
import { Table } from "../table.js";
import { Warnings } from "../warnings.js";
import { howToRegister } from "./instances.js";

/** @import { Counts } from "../model_counts.js" */
/** @import { Column } from "../table.js" */
/** @import { Context, View } from "../types.js" */
/** @typedef {[string, Counts]} Model */

const MOST_MODELS = 200;

/** @type {Column<Model>[]} */
const COLUMNS = [
  { id: "model", name: "Model", names: true, fill: (cell, [model]) => drawOnChange(cell, "", () => [h("a", { href: hrefOf("instances", { model }) }, escaped(nameAndType(model)[0]))]) },
  { id: "type", name: "Type", fill: (cell, [model]) => setText(cell, escaped(nameAndType(model)[1])) },
  ...COUNTED.map((name) => ({ id: name, name: name[0].toUpperCase() + name.slice(1), fill: fillCount.bind(null, name) })),
];

/**
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  const counts = new ModelCounts();
  const warnings = new Warnings(context.watch);
  const controllers = controllersList();
  const filter = searchInput("Name or type", () => navigate(hrefOf("", { q: filter.value.trim() }), { replace: true }));
  const text = h("p", { class: "counts" });
  const all = h("button", { type: "button", click: showAll }, "Show all");
  const table = new Table("Models, those without a routable instance first", COLUMNS, ([name]) => name);
  const search = h("div", { class: "filter" }, field("Filter", filter), text, all);
  const empty = h("div", { class: "empty" }, ...howToRegister());
  const element = h("div", { class: "overview" }, h("h1", {}, "Overview"), warnings.element, controllers.element, part("Models", search, table.element, empty));
  let most = MOST_MODELS;
  let health = "";
  navigated(context.params);
  return { title: "Overview", element, filter, update, navigate: navigated, close: () => warnings.close() };

  /** @param {ReadonlySet<string> | null} keys */
  function update(keys) {
    counts.update(context.inventory.instances, keys);
    if (keys === null || keys.size) draw();
    controllers.draw(context.status);
    const { stale_since, held_until, registry, controllers: { length } = [] } = context.status ?? {};
    const now = JSON.stringify([stale_since, held_until, registry?.reason, length]);
    if (health && now !== health) warnings.soon();
    health = now;
  }

  /** @param {URLSearchParams} params */
  function navigated(params) {
    const value = params.get("q") ?? "";
    if (filter.value.trim() !== value) filter.value = value;
    draw();
  }

  function showAll() {
    most = Infinity;
    draw();
    filter.focus();
  }

  function draw() {
    const words = filter.value.toLowerCase().split(" ");
    const found = [...counts.byModel].filter(([name]) => words.every((word) => name.toLowerCase().includes(word))).sort(worstFirst);
    const shown = found.slice(0, most);
    const instances = found.reduce((total, [, { total: more }]) => total + more, 0);
    search.hidden = counts.byModel.size === 0;
    table.element.hidden = found.length === 0;
    empty.hidden = !search.hidden || !context.inventory.loaded;
    all.hidden = shown.length === found.length;
    setText(text, `${countText(found.length, "model")}, ${countText(instances, "instance")}` + (all.hidden ? "" : `; the first ${most} are shown`));
    table.draw(shown);
  }
}

/**
 * @param {Model} a
 * @param {Model} b
 */
function worstFirst([name, counts], [other, others]) {
  return urgency(counts) - urgency(others) || (name < other ? -1 : 1);
}

/**
 * A link to the instances that are counted, and for the routable ones a bar.
 *
 * @param {typeof COUNTED[number]} name
 * @param {HTMLElement} cell
 * @param {Model} model
 */
function fillCount(name, cell, [model, counts]) {
  const [count, total] = [counts[name], counts.total];
  const [state, drained] = name === "drained" ? ["", "yes"] : [name === "total" ? "" : name, ""];
  if (!cell.firstChild) cell.append(name === "routable" ? h("span", { class: "bar" }) : "", h("a", { href: hrefOf("instances", { model, state, drained }) }));
  const link = /** @type {HTMLElement} */ (cell.lastChild);
  setText(link, String(count));
  link.className = count ? name : "zero";
  if (name !== "routable") return;
  cell.className = count === total ? "all" : count ? "some" : "none";
  cell.style.setProperty("--share", `${(100 * count) / total}%`);
}
