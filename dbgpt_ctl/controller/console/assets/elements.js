/** Makes elements without HTML text, so that no name can become markup. */

/** What a person types reaches the URL after so long a pause: browsers limit how often it may change. */
export const TYPING_MILLIS = 250;
const SVG = "http://www.w3.org/2000/svg";

/** @type {WeakMap<Element, string>} What was drawn last, for `drawOnChange`. */
const signatures = new WeakMap();

/**
 * @typedef {Node | string | number | null | undefined | false} Child
 * @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes
 */

/**
 * An element of HTML. An attribute that is a function is a listener, as in `{click: open}`; true is an empty attribute,
 * false and null are none.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * An element of SVG.
 *
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElement}
 */
export function svg(tag, attributes, ...children) {
  return fill(/** @type {SVGElement} */ (document.createElementNS(SVG, tag)), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes | undefined} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
  return element;
}

/** @param {Child} child */
function asNode(child) {
  return child instanceof Node ? child : String(child);
}

/**
 * Sets the text of a node if it is another one: a selection of text survives where nothing changes.
 *
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Draws an element anew if the signature is another one than at the last time: focus, and a selection of text, survive
 * where nothing changes.
 *
 * @param {Element} element
 * @param {string} signature  tells apart all that `children` depends on
 * @param {() => Child[]} children
 */
export function drawOnChange(element, signature, children) {
  if (signatures.get(element) === signature) return;
  signatures.set(element, signature);
  element.replaceChildren();
  fill(element, {}, children());
}

/**
 * Makes the children of `parent` those of `items`, in their order, with one element for each key. An element that stays
 * keeps its focus and what is selected in it.
 *
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} keyOf
 * @param {(item: T, before: HTMLElement | undefined) => HTMLElement} draw  returns `before`, changed; a new one without it
 */
export function drawByKey(parent, items, keyOf, draw) {
  const before = new Map([...parent.children].map((child) => [key(child), /** @type {HTMLElement} */ (child)]));
  const wanted = new Set(items.map(keyOf));
  for (const [name, child] of before) if (!wanted.has(name)) child.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = keyOf(item);
    const element = draw(item, before.get(name));
    element.dataset.key = name;
    if (element === place) place = place.nextElementSibling;
    else put(parent, element, place);
  }
}

/**
 * Puts an element before another one. Where the browser can, one that is moved keeps its focus.
 *
 * @param {Element & {moveBefore?: (node: Element, child: Element | null) => void}} parent
 * @param {Element} element
 * @param {Element | null} place
 */
function put(parent, element, place) {
  if (element.parentNode === parent && parent.moveBefore) parent.moveBefore(element, place);
  else parent.insertBefore(element, place);
}

/** @param {Element} element */
function key(element) {
  return /** @type {HTMLElement} */ (element).dataset.key ?? "";
}

/**
 * A section with its heading.
 *
 * @param {string} title
 * @param {...Child} children
 */
export function part(title, ...children) {
  const id = `part-${title.toLowerCase()}`;
  return h("section", { "aria-labelledby": id }, h("h2", { id }, title), ...children);
}

/**
 * A control with its label. One without an id gets it from the label.
 *
 * @param {string} label
 * @param {HTMLElement} control
 * @param {...HTMLElement} others
 */
export function field(label, control, ...others) {
  control.id ||= `field-${label.toLowerCase().replace(/\W+/g, "-")}`;
  return h("div", { class: `field ${control.id}` }, h("label", { for: control.id }, label), control, ...others);
}

/**
 * A field for words that filter. What a person types acts after TYPING_MILLIS.
 *
 * @param {string} placeholder
 * @param {() => void} [act]
 */
export function searchInput(placeholder, act) {
  let timer = 0;
  const input = () => {
    clearTimeout(timer);
    timer = setTimeout(() => element.isConnected && act?.(), TYPING_MILLIS);
  };
  const element = h("input", { type: "search", placeholder, autocomplete: "off", spellcheck: "false", input });
  return element;
}
