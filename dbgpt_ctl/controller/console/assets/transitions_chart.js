/** The transitions of the last hour: a bar for each minute, and the same in words. */

import { countText } from "./counts.js";
import { drawOnChange, h, setText, svg } from "./elements.js";
import { GROUPS, groupOf } from "./event_columns.js";

/** @import { Change } from "./types.js" */
/** @import { Group } from "./event_columns.js" */

const MINUTES = 60;
const MINUTE_MILLIS = 60_000;
const HEIGHT = 120;
const LABEL_MINUTES = 15;
const NAMES = /** @type {Group[]} */ (Object.keys(GROUPS));
/** Lines over the colour of each group: nobody needs to tell colours apart. */
const TEXTURES = { unhealthy: "", healthy: "M0 3H6", drain: "M0 6L6 0", membership: "M1 0V6M4 0V6" };

export class TransitionsChart {
  #clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  #svg = svg("svg", { role: "img", height: HEIGHT + 20, "aria-label": "Transitions in each minute of the last hour" });
  #most = h("span");
  #summary = h("figcaption");
  element = h("figure", { class: "transitions" }, this.#summary, h("div", {}, this.#most, this.#svg),
    h("ul", { class: "plain" }, ...NAMES.map((name) => h("li", {}, swatch(name), GROUPS[name]))));

  /**
   * @param {readonly Change[]} events
   * @param {number} now  in milliseconds
   * @param {string} missing  which of them are not there
   */
  draw(events, now, missing) {
    const first = Math.floor(now / MINUTE_MILLIS) - MINUTES + 1;
    const bars = Array.from({ length: MINUTES }, () => ({ unhealthy: 0, healthy: 0, drain: 0, membership: 0 }));
    const totals = { ...bars[0] };
    for (const event of events) {
      const bar = bars[Math.floor(Date.parse(event.time) / MINUTE_MILLIS) - first];
      if (!bar) continue;
      bar[groupOf(event)] += 1;
      totals[groupOf(event)] += 1;
    }
    const starts = bars.map((_, minute) => this.#clock.format((first + minute) * MINUTE_MILLIS));
    const sums = bars.map(sum);
    const most = Math.max(...sums);
    setText(this.#most, String(most));
    setText(this.#summary, (most
      ? `In the last hour ${countText(sum(totals), "transition")}: ${words(totals)}; most at ${starts[sums.indexOf(most)]} (${most}).`
      : "No transitions in the last hour.") + missing);
    drawOnChange(this.#svg, JSON.stringify([first, bars]), () => [
      svg("defs", {}, ...NAMES.map(pattern)),
      svg("path", { d: `M0 ${HEIGHT}H9999` }),
      ...bars.map((bar, minute) => sums[minute] > 0 && column(bar, minute, most, starts[minute])),
      ...starts.map((start, minute) => minute > 2 && minute < 58 && (first + minute) % LABEL_MINUTES === 0 && svg("text", { x: percent(minute), y: HEIGHT + 16 }, start)),
    ]);
  }
}

/** @param {Record<Group, number>} bar */
function sum(bar) {
  return NAMES.reduce((total, name) => total + bar[name], 0);
}

/** @param {Record<Group, number>} bar */
function words(bar) {
  return NAMES.filter((name) => bar[name]).map((name) => `${bar[name]} ${GROUPS[name]}`).join(", ");
}

/** @param {number} minutes */
function percent(minutes) {
  return `${(minutes / MINUTES) * 100}%`;
}

/**
 * @param {Record<Group, number>} bar
 * @param {number} minute
 * @param {number} most
 * @param {string} start
 */
function column(bar, minute, most, start) {
  let y = HEIGHT;
  return svg("g", {}, svg("title", {}, `${start}: ${words(bar)}`), ...NAMES.filter((name) => bar[name]).map((name) => {
    const height = (bar[name] / most) * HEIGHT;
    y -= height;
    return svg("rect", { fill: `url(#${name})`, x: percent(minute + 0.1), width: percent(0.8), y, height });
  }));
}

/** @param {Group} name */
function pattern(name) {
  return svg("pattern", { id: name, class: name, width: 6, height: 6, patternUnits: "userSpaceOnUse" },
    svg("rect", { width: 6, height: 6 }), svg("path", { d: TEXTURES[name] }));
}

/** @param {Group} name */
function swatch(name) {
  return svg("svg", { "aria-hidden": "true" }, svg("rect", { fill: `url(#${name})`, width: 14, height: 14 }));
}
