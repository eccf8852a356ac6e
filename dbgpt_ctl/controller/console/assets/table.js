/** A table that is sorted by the buttons in its head, with one page of rows drawn by key, and the pager below it. */

import { numberText } from "./counts.js";
import { drawByKey, h, setText } from "./elements.js";

/**
 * @template T
 * @typedef {object} Column
 * @property {string} id
 * @property {string} name
 * @property {string} [sort]  the order that a first click asks for, as in `weight` or `-weight`
 * @property {Node} [head]  instead of the name
 * @property {boolean} [names]  whether its cell names the row
 * @property {(cell: HTMLElement, item: T) => void} fill
 */

/** @template T */
export class Table {
  #body = h("tbody", { role: "rowgroup" });
  /** @type {Map<string, HTMLElement>} */
  #heads = new Map();
  #columns;
  #keyOf;

  /**
   * The roles are those of the elements. Browsers forget them where rows are drawn as cards.
   *
   * @param {string} caption
   * @param {Column<T>[]} columns
   * @param {(item: T) => string} keyOf
   * @param {(sort: string) => void} [onSort]
   */
  constructor(caption, columns, keyOf, onSort) {
    this.#columns = columns;
    this.#keyOf = keyOf;
    const heads = columns.map((column) => this.#head(column, onSort));
    this.element = h(
      "div", { class: "scroll" },
      h("table", { class: "cards", role: "table" },
        h("caption", { class: "visually-hidden" }, caption),
        h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...heads)), this.#body),
    );
  }

  /**
   * @param {readonly T[]} items
   * @param {string} sort  the order that they are in: the id of a column, with `-` before it where it is descending
   */
  draw(items, sort = "") {
    for (const [id, head] of this.#heads) {
      const order = id === sort ? "ascending" : `-${id}` === sort ? "descending" : "none";
      if (head.ariaSort !== order) head.ariaSort = order;
    }
    drawByKey(this.#body, items, this.#keyOf, (item, before) => {
      const row = before ?? h("tr", { role: "row" }, ...this.#columns.map(cellOf));
      this.#columns.forEach((column, index) => column.fill(/** @type {HTMLElement} */ (row.children[index]), item));
      return row;
    });
  }

  /**
   * @param {Column<T>} column
   * @param {((sort: string) => void) | undefined} onSort
   */
  #head({ id, name, sort, head }, onSort) {
    const order = () => (element.ariaSort === "ascending" ? `-${id}` : element.ariaSort === "descending" ? id : /** @type {string} */ (sort));
    const button = sort !== undefined && h("button", { type: "button", class: "sort", click: () => onSort?.(order()) }, name);
    const element = h("th", { scope: "col", role: "columnheader", class: `col-${id}` }, head ?? (button || name));
    if (button) this.#heads.set(id, element);
    return element;
  }
}

/**
 * @template T
 * @param {Column<T>} column
 */
function cellOf({ id, name, names }) {
  const attributes = { class: `col-${id}`, "data-label": name };
  return names ? h("th", { scope: "row", role: "rowheader", ...attributes }) : h("td", { role: "cell", ...attributes });
}

/**
 * First, previous, next and last page. Hidden where there is one page.
 *
 * @param {(page: number) => void} go
 */
export function pager(go) {
  let [page, pages] = [1, 1];
  const text = h("span", { "aria-current": "page" });
  const button = (/** @type {string} */ name, /** @type {() => number} */ target) =>
    h("button", { type: "button", click: () => go(target()) }, name);
  const back = [button("First", () => 1), button("Previous", () => page - 1)];
  const forth = [button("Next", () => page + 1), button("Last", () => pages)];
  const element = h("nav", { class: "pager", "aria-label": "Pages" }, ...back, text, ...forth);
  return {
    element,
    /**
     * @param {number} newPage
     * @param {number} newPages
     */
    draw: (newPage, newPages) => {
      [page, pages] = [newPage, newPages];
      element.hidden = pages <= 1;
      setText(text, `Page ${numberText(page)} of ${numberText(pages)}`);
      for (const each of back) each.disabled = page <= 1;
      for (const each of forth) each.disabled = page >= pages;
    },
  };
}
