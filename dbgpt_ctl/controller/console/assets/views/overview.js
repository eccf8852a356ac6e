/** @import { Context, Instance, View } from "../types.js" */

import { drawByKey, h, setText } from "../elements.js";
import { escaped } from "../escaping.js";
import { hrefOf } from "../location.js";

/**
 * The models with how many of their instances can be routed to.
 *
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  const rows = h("tbody");
  const element = h(
    "section", {},
    h("h1", {}, "Overview"),
    h("table", {}, h("thead", {}, h("tr", {}, ...["Model", "Routable", "Total"].map((name) => h("th", { scope: "col" }, name)))), rows),
  );

  function update() {
    const counts = countByModel(context.inventory.instances.values());
    drawByKey(rows, [...counts], ([name]) => name, ([name, count], before) => {
      const row = before ?? h("tr", {}, h("td", {}, h("a", { href: hrefOf("instances", { model: name }) }, escaped(name))), h("td"), h("td"));
      setText(row.children[1], String(count.routable));
      setText(row.children[2], String(count.total));
      return row;
    });
  }

  return { title: "Overview", element, update };
}

/** @param {Iterable<Instance>} instances */
function countByModel(instances) {
  /** @type {Map<string, {routable: number, total: number}>} */
  const counts = new Map();
  for (const { model_name, routable } of instances) {
    const count = counts.get(model_name) ?? { routable: 0, total: 0 };
    count.total += 1;
    count.routable += Number(routable);
    counts.set(model_name, count);
  }
  return counts;
}
