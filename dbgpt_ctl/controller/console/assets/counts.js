/** Numbers as English writes them. */

const NUMBER = new Intl.NumberFormat("en");

/**
 * `5,000`.
 *
 * @param {number} number
 */
export function numberText(number) {
  return NUMBER.format(number);
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
