/**
 * Times: how long ago by the registry's clock, the viewer's own zone, and UTC when the pointer rests on it.
 *
 * The clock of the viewer's machine may be wrong, so ages count from the time that the registry sends.
 */

import { h, setText } from "./elements.js";

const UNITS = /** @type {const} */ ([["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]]);

let ahead = 0;
/** @type {Intl.DateTimeFormat | null} Made when it is first wanted: that takes longer than to draw a table. */
let local = null;

/**
 * Notes what time it is by the registry's clock.
 *
 * @param {string} time
 */
export function setClock(time) {
  ahead = Date.parse(time) - Date.now();
}

/** Milliseconds since 1970 by the registry's clock. */
export function now() {
  return Date.now() + ahead;
}

/**
 * The two largest units of a number of seconds: `2h 5m`.
 *
 * @param {number} seconds
 */
export function durationText(seconds) {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(left / size);
    if (count || (parts.length === 0 && unit === "s")) parts.push(`${count}${unit}`);
    else if (parts.length) break;
    left -= count * size;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/**
 * `12s ago`, or `in 5m` for a time to come.
 *
 * @param {string} time
 */
function ageText(time) {
  const seconds = (now() - Date.parse(time)) / 1000;
  return seconds <= -1 ? `in ${durationText(-seconds)}` : `${durationText(seconds)} ago`;
}

/**
 * In the viewer's zone.
 *
 * @param {string} time
 */
export function localText(time) {
  local ??= new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
    hourCycle: "h23", timeZoneName: "short",
  });
  return local.format(new Date(time));
}

/**
 * A time as an element. `form` is `age`, which `refreshAges` keeps current, or `local`.
 *
 * @param {string} time
 * @param {"age" | "local"} [form]
 */
export function timeElement(time, form = "age") {
  const utc = `${new Date(time).toISOString().replace("T", " ").slice(0, 19)} UTC`;
  const element = h("time", { datetime: time });
  if (form === "age") {
    element.dataset.age = "";
    element.title = `${utc}, ${new Date(time)}`; // Intl would take longer than all else of a row
  } else {
    element.title = utc;
  }
  element.textContent = form === "age" ? ageText(time) : localText(time);
  return element;
}

/**
 * Brings all ages below an element up to date.
 *
 * @param {ParentNode} root
 */
export function refreshAges(root) {
  for (const element of root.querySelectorAll("time[data-age]")) {
    setText(element, ageText(/** @type {HTMLTimeElement} */ (element).dateTime));
  }
}
