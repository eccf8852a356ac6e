/** Numbers as English writes them. Intl does it too, and its first use takes longer than to draw a table. */

/**
 * `5,000`.
 *
 * @param {number} number
 */
export function numberText(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/**
 * `1 instance`, `5,000 instances`.
 *
 * @param {number} count
 * @param {string} noun  in the singular
 */
export function countText(count, noun) {
  return `${numberText(count)} ${noun}${count === 1 ? "" : "s"}`;
}
