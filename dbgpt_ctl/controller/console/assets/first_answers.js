/**
 * What the page asks first: who looks, where the stream of changes is, and the list. It asks while the other modules are
 * on their way, so that both arrive at the same time. What failed is asked again.
 */

import { events, list, session } from "./api.js";

const firstSession = session();
const firstCursor = firstSession.then(({ may_read }) => (may_read ? newCursor() : null));
const firstList = firstCursor.then((cursor) => (cursor ? list() : null));

/** Who looks. */
export const readSession = once(firstSession, session);
/** Where the stream of changes is. A list that is read afterwards lacks no change before it. */
export const readCursor = once(firstCursor, newCursor);
export const readList = once(firstList, list);

async function newCursor() {
  const { stream, last_id } = await events({ limit: "1" });
  return `${stream}.${last_id}`;
}

/**
 * Returns the first answer once, where there is one, and then new ones.
 *
 * @template T
 * @param {Promise<T | null>} first
 * @param {() => Promise<T>} again
 * @returns {() => Promise<T>}
 */
function once(first, again) {
  /** @type {Promise<T | null> | null} */
  let answer = first.catch(() => null);
  return async () => {
    const found = await answer;
    answer = null;
    return found ?? again();
  };
}
