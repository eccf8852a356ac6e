/** @import { Context, View } from "../types.js" */

import { h } from "../elements.js";

/**
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  const element = h("section", {}, h("h1", {}, "Events"));
  return { title: "Events", element, update: () => undefined };
}
