/** One change of many instances: a few calls at a time. A refused one does not keep the others from being asked for. */

import { ApiError } from "./api.js";

/** @import { Instance } from "./types.js" */

const CALLS_AT_ONCE = 4;

/**
 * @typedef {object} BulkChange
 * @property {Instance[]} instances
 * @property {(instance: Instance) => Promise<{instance: Instance}>} change
 * @property {(after: Instance) => void} changed  called for each that is changed
 * @property {(instance: Instance, problem: string) => void} refused  called for each that is not
 * @property {() => boolean} stopped  whether no more are to be asked for
 */

/**
 * Ends when all were asked for and have an answer.
 *
 * @param {BulkChange} bulk
 */
export async function changeAll({ instances, change, changed, refused, stopped }) {
  const left = instances.values();

  async function work() {
    for (const instance of left) {
      if (stopped()) return;
      try {
        changed((await change(instance)).instance);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        refused(instance, error.message);
      }
    }
  }

  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, work));
}
