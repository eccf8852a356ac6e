/**
 * Any client can register a model, and its name may hold line breaks, characters that cannot be seen, or marks that
 * reverse the direction of text. They are shown as escapes, as `ctl` shows them.
 */

const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]|(?! )\p{Zs}/gu;
const LIKE_AN_ESCAPE = /\\(?=x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})/g;

/**
 * The text on one line; two different texts never look the same.
 *
 * @param {string} text
 */
export function escaped(text) {
  return text.replace(LIKE_AN_ESCAPE, "\\x5c").replace(INVISIBLE, escapeOf);
}

/** @param {string} character */
function escapeOf(character) {
  const code = /** @type {number} */ (character.codePointAt(0));
  const [mark, digits] = code <= 0xff ? ["x", 2] : code <= 0xffff ? ["u", 4] : ["U", 8];
  return `\\${mark}${code.toString(16).padStart(Number(digits), "0")}`;
}
