/**
 * The instances in the order of a column, and those of them that match a filter.
 *
 * A filter takes from what is sorted already, and a change moves one entry to its place, so neither sorts anew.
 */

/** @import { Instance } from "./types.js" */

/**
 * @typedef {object} Entry
 * @property {string} key
 * @property {Instance} instance
 * @property {string} place  puts entries of the same value in order; different for each entry
 * @property {string | number} value  of the column that is sorted by
 * @property {string | null} text  for the filter of text, once it was needed
 */

/** With more changes at once, sorting is faster than moving one entry after the other. */
const MOST_MOVES = 200;
const DIGITS = 10;

/**
 * Text that sorts by its numbers: `10.0.0.4` before `10.0.0.10`.
 *
 * @param {string} text
 */
export function padded(text) {
  return text.replace(/\d+/g, (digits) => digits.padStart(DIGITS, "0"));
}

/** Instances in order. */
export class InstanceOrder {
  /** @type {Entry[]} */
  matching = [];
  /** @type {Entry[]} */
  #all = [];
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {(entry: Entry) => boolean} */
  #matches = () => true;
  /** @type {(instance: Instance) => string | number} */
  #value = () => 0;
  #direction = 1;

  /** @param {(entry: Entry) => boolean} matches */
  filter(matches) {
    this.#matches = matches;
    this.matching = this.#all.filter(matches);
  }

  /**
   * @param {(instance: Instance) => string | number} value
   * @param {boolean} descending
   */
  sort(value, descending) {
    this.#value = value;
    this.#direction = descending ? -1 : 1;
    for (const entry of this.#all) entry.value = value(entry.instance);
    this.#all.sort(this.#compare);
    this.matching = this.#all.filter(this.#matches);
  }

  /**
   * Takes the instances with these keys, or all where it is null. Returns whether an instance came or went.
   *
   * @param {ReadonlyMap<string, Instance>} instances
   * @param {ReadonlySet<string> | null} changed
   */
  update(instances, changed) {
    if (changed === null || changed.size > MOST_MOVES) {
      this.#replace(instances);
      return true;
    }
    let others = false;
    for (const key of changed) {
      others = this.#entries.has(key) !== instances.has(key) || others;
      this.#move(key, instances.get(key));
    }
    return others;
  }

  /** @param {ReadonlyMap<string, Instance>} instances */
  #replace(instances) {
    const before = this.#entries;
    this.#entries = new Map();
    for (const key of this.#keys(instances)) {
      this.#entries.set(key, this.#entry(key, /** @type {Instance} */ (instances.get(key)), before.get(key)));
    }
    this.#all = [...this.#entries.values()].sort(this.#compare);
    this.matching = this.#all.filter(this.#matches);
  }

  /**
   * The keys in the order until now, because what is nearly in order is sorted faster; then the new ones.
   *
   * @param {ReadonlyMap<string, Instance>} instances
   */
  #keys(instances) {
    return new Set([...this.#all.map(({ key }) => key).filter((key) => instances.has(key)), ...instances.keys()]);
  }

  /**
   * @param {string} key
   * @param {Instance | undefined} instance
   */
  #move(key, instance) {
    const before = this.#entries.get(key);
    const after = instance && this.#entry(key, instance, before);
    if (before) this.#remove(this.#all, before);
    if (before) this.#remove(this.matching, before);
    if (after) this.#insert(this.#all, after);
    if (after && this.#matches(after)) this.#insert(this.matching, after);
    if (after) this.#entries.set(key, after);
    else this.#entries.delete(key);
  }

  /**
   * @param {string} key
   * @param {Instance} instance
   * @param {Entry | undefined} before
   * @returns {Entry}
   */
  #entry(key, instance, before) {
    const { model_name, host, port } = instance;
    const place = before?.place ?? [padded(model_name), padded(host), String(port).padStart(DIGITS, "0"), key].join("\0");
    return { key, instance, place, value: this.#value(instance), text: null };
  }

  /**
   * @param {Entry[]} list
   * @param {Entry} entry
   */
  #remove(list, entry) {
    const at = this.#find(list, entry);
    if (list[at] === entry) list.splice(at, 1);
  }

  /**
   * @param {Entry[]} list
   * @param {Entry} entry
   */
  #insert(list, entry) {
    list.splice(this.#find(list, entry), 0, entry);
  }

  /**
   * The index of the first entry that is not before this one.
   *
   * @param {Entry[]} list
   * @param {Entry} entry
   */
  #find(list, entry) {
    let [low, high] = [0, list.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(list[middle], entry) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #compare = (/** @type {Entry} */ a, /** @type {Entry} */ b) =>
    this.#direction * ordered(a.value, b.value) || ordered(a.place, b.place);
}

/**
 * @param {string | number} a
 * @param {string | number} b
 */
function ordered(a, b) {
  return a < b ? -1 : Number(a > b);
}
