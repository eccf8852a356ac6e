/** The view and its filters live in the URL: a link, a reload and the history lead back to them. */

const VIEWS = /** @type {const} */ (["", "instances", "instance", "events", "controller"]);
/** @typedef {typeof VIEWS[number]} ViewName */

/** @returns {{view: ViewName, params: URLSearchParams}} */
export function place() {
  const last = location.pathname.split("/").pop() ?? "";
  return { view: VIEWS.find((name) => name === last) ?? "", params: new URLSearchParams(location.search) };
}

/**
 * The relative URL of a view. Empty parameters are left out.
 *
 * @param {ViewName} view
 * @param {Record<string, string | number> | URLSearchParams} [params]
 */
export function hrefOf(view, params = {}) {
  const entries = params instanceof URLSearchParams ? [...params] : Object.entries(params);
  const query = new URLSearchParams(entries.filter(([, value]) => value !== "").map(([name, value]) => [name, String(value)]));
  return (view || "./") + (query.size ? `?${query}` : "");
}

/**
 * Goes to a view. `replace`: the history gets no new entry, as while a person types a filter.
 *
 * @param {string} href
 * @param {{replace?: boolean}} [how]
 */
export function navigate(href, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href);
  dispatchEvent(new PopStateEvent("popstate"));
}

/** Lets a click on a link to a view change the view without a load of the page. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("a") : null;
    const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
    if (!target || !plain || target.target || target.hash || event.defaultPrevented) return;
    if (!isView(new URL(target.href))) return;
    event.preventDefault();
    navigate(target.href);
    scrollTo(0, 0);
  });
}

/** @param {URL} url */
function isView(url) {
  const folder = url.pathname.slice(0, url.pathname.lastIndexOf("/") + 1);
  const last = url.pathname.slice(folder.length);
  return url.origin === location.origin && folder === new URL("./", location.href).pathname && VIEWS.some((name) => name === last);
}
