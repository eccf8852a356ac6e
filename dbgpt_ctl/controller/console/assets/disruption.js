/** What a drain would do to the models: which of them lose too many of their routable instances at once. */

import { numberText } from "./counts.js";
import { escaped } from "./escaping.js";
import { nameAndType } from "./inventory.js";

/** @import { Instance } from "./types.js" */

/** Nobody asks the controller for instances of this type. */
const SERVICE = "service";

/**
 * A line for each model that would keep no routable instance, or lose more than half of them. A model without a routable
 * instance loses none.
 *
 * @param {Iterable<Instance>} drained  those that would be
 * @param {Iterable<Instance>} all
 * @returns {string[]}
 */
export function disruptions(drained, all) {
  const [lost, before] = [routableByModel(drained), routableByModel(all)];
  const lines = [];
  for (const [name, count] of [...lost].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const of = before.get(name) ?? count;
    if (count < of && count * 2 <= of) continue;
    const loses = count < of ? "lose more than half of its routable instances" : "have no routable instance";
    lines.push(`${escaped(name)} would ${loses}, because ${numberText(count)} of ${numberText(of)} would be drained`);
  }
  return lines;
}

/** @param {Iterable<Instance>} instances */
function routableByModel(instances) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const { model_name, routable } of instances) {
    if (routable && nameAndType(model_name)[1] !== SERVICE) counts.set(model_name, (counts.get(model_name) ?? 0) + 1);
  }
  return counts;
}
