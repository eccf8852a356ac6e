/** How many instances of each model are in which state. A change costs as much as it has instances. */

/** @import { Instance } from "./types.js" */

export const COUNTED = /** @type {const} */ (["routable", "total", "healthy", "held", "unhealthy", "drained", "deregistered"]);
/** @typedef {Record<typeof COUNTED[number], number>} Counts */

export class ModelCounts {
  /** @type {Map<string, Counts>} */
  byModel = new Map();
  /** @type {Map<string, Instance>} As they were counted. */
  #counted = new Map();

  /**
   * @param {ReadonlyMap<string, Instance>} instances
   * @param {ReadonlySet<string> | null} changed  the keys to count again; null: all
   */
  update(instances, changed) {
    for (const key of changed ?? new Set([...this.#counted.keys(), ...instances.keys()])) {
      this.#count(this.#counted.get(key), -1);
      const now = instances.get(key);
      this.#count(now, 1);
      if (now) this.#counted.set(key, now);
      else this.#counted.delete(key);
    }
  }

  /**
   * @param {Instance | undefined} instance
   * @param {1 | -1} by
   */
  #count(instance, by) {
    if (!instance) return;
    const { model_name, state, routable, held, drain } = instance;
    const counts = this.byModel.get(model_name) ?? { routable: 0, total: 0, healthy: 0, held: 0, unhealthy: 0, drained: 0, deregistered: 0 };
    counts.total += by;
    counts[state] += by;
    if (routable) counts.routable += by;
    if (held) counts.held += by;
    if (drain) counts.drained += by;
    if (counts.total) this.byModel.set(model_name, counts);
    else this.byModel.delete(model_name);
  }
}

/**
 * The worst first: 0 where no request can be served, 2 where all instances were deregistered, which somebody wanted.
 *
 * @param {Counts} counts
 */
export function urgency({ total, routable, deregistered }) {
  return routable ? 1 : deregistered === total ? 2 : 0;
}
