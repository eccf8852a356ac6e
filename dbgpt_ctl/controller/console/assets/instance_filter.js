/** Which instances are shown, in which order, and on which page; read from the parameters of the URL and written to them. */

import { padded } from "./instance_order.js";
import { nameAndType } from "./inventory.js";

/** @import { Entry } from "./instance_order.js" */
/** @import { Instance } from "./types.js" */

/**
 * An empty text is no filter.
 *
 * @typedef {object} InstanceFilter
 * @property {string} q  words; all of them are in the name, the host, the port or the reason of the drain
 * @property {string} model  NAME@TYPE
 * @property {string} type
 * @property {string} host  a host, or a pattern with `*` or `?`
 * @property {string} state  one of STATES, or empty
 * @property {string} drained  `yes`, `no`, or empty
 * @property {string} sort  one of SORTS, with `-` before it where the order is descending
 * @property {number} page  from 1
 */

export const STATES = ["healthy", "unhealthy", "deregistered", "routable", "held"];
export const DRAINED = ["yes", "no"];
const DEFAULT_SORT = "model";

/** @type {Record<string, (instance: Instance) => string | number>} */
const SORTS = {
  state: urgency,
  model: ({ model_name }) => padded(model_name),
  type: ({ model_name }) => nameAndType(model_name)[1],
  host: ({ host, port }) => padded(`${host}\0${port}`),
  weight: ({ weight }) => weight,
  heartbeat: ({ last_heartbeat }) => last_heartbeat,
  drain: ({ drain }) => (drain ? drain.since ?? "0" : ""),
  flaps: ({ flaps }) => flaps,
};

/**
 * The worst first: not healthy, then held, then drained.
 *
 * @param {Instance} instance
 */
function urgency({ state, drain, held }) {
  const rank = ["unhealthy", "deregistered", "healthy"].indexOf(state) * 2 + Number(drain !== null);
  return state === "healthy" && !drain && !held ? 9 : rank;
}

/**
 * Values that are unknown are as if they were not there.
 *
 * @param {URLSearchParams} params
 * @returns {InstanceFilter}
 */
export function filterOf(params) {
  const value = (/** @type {string} */ name) => params.get(name) ?? "";
  const known = (/** @type {string} */ name, /** @type {string[]} */ values) => (values.includes(value(name)) ? value(name) : "");
  return {
    q: value("q"), model: value("model"), type: value("type"), host: value("host").trim(),
    state: known("state", STATES), drained: known("drained", DRAINED),
    sort: known("sort", Object.keys(SORTS).flatMap((name) => [name, `-${name}`])) || DEFAULT_SORT,
    page: Math.max(1, Math.trunc(Number(value("page"))) || 1),
  };
}

/**
 * @param {InstanceFilter} filter
 * @returns {Record<string, string>}
 */
export function paramsOf(filter) {
  const { sort, page } = filter;
  return { ...filter, sort: sort === DEFAULT_SORT ? "" : sort, page: page === 1 ? "" : String(page) };
}

/**
 * The filter with all instances, in the same order.
 *
 * @param {InstanceFilter} filter
 * @returns {InstanceFilter}
 */
export function cleared({ sort }) {
  return { ...filterOf(new URLSearchParams()), sort };
}

/** @param {InstanceFilter} filter */
export function isFiltered({ q, model, type, host, state, drained }) {
  return Boolean(q.trim() || model || type || host || state || drained);
}

/**
 * Sorts the instances by the column of the filter.
 *
 * @param {import("./instance_order.js").InstanceOrder} order
 * @param {InstanceFilter} filter
 */
export function sortBy(order, { sort }) {
  order.sort(SORTS[sort.replace("-", "")], sort.startsWith("-"));
}

/**
 * @param {InstanceFilter} filter
 * @returns {(entry: Entry) => boolean}
 */
export function matcher({ q, model, type, host, state, drained }) {
  /** @type {((entry: Entry) => boolean)[]} */
  const tests = [];
  if (model) tests.push(({ instance }) => instance.model_name === model);
  if (type) tests.push(({ instance }) => nameAndType(instance.model_name)[1] === type);
  if (host) {
    const pattern = patternOf(host);
    tests.push(({ instance }) => pattern.test(instance.host));
  }
  if (state === "routable" || state === "held") tests.push(({ instance }) => instance[state]);
  else if (state) tests.push(({ instance }) => instance.state === state);
  if (drained) tests.push(({ instance }) => (instance.drain !== null) === (drained === "yes"));
  for (const word of q.toLowerCase().split(/\s+/).filter(Boolean)) tests.push((entry) => textOf(entry).includes(word));
  return (entry) => tests.every((test) => test(entry));
}

/** @param {Entry} entry */
function textOf(entry) {
  const { model_name, host, port, drain } = entry.instance;
  entry.text ??= `${model_name}\n${host}:${port}\n${drain?.reason ?? ""}`.toLowerCase();
  return entry.text;
}

/**
 * `*` stands for any characters, `?` for one.
 *
 * @param {string} pattern
 */
function patternOf(pattern) {
  const source = pattern.replace(/[\\^$.+()[\]{}|]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
  return new RegExp(`^${source}$`, "isu");
}
