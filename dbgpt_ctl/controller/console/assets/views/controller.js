/** @import { Context, View } from "../types.js" */

import { h } from "../elements.js";

/**
 * @param {Context} context
 * @returns {View}
 */
export function show(context) {
  const element = h("section", {}, h("h1", {}, "Controller"));
  return { title: "Controller", element, update: () => undefined };
}
