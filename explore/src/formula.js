/**
 * Formulas as MathML, from a small part of TeX: letters, numbers, _ and ^, {groups}, \frac, \sqrt, \text, \log, \exp.
 */

import { escaped } from "./draw.js";

const OPERATORS = /^[=+\-−·<>≤≥≈∝∫Σ√|/(),;:′→∞±‖\u2062]$/;

/** @param {string} tex @returns {string[]} */
function tokens(tex) {
  return tex.match(/\\[a-z]+|\d+(?:\.\d+)?|\s+|[\s\S]/gu)?.filter((token) => token.trim()) ?? [];
}

/** MathML of a formula. @param {string} tex */
export const math = (tex) => `<math displaystyle="true">${row(tokens(tex))}</math>`;

/** Everything up to a closing brace. @param {string[]} rest */
function row(rest) {
  /** @type {string[]} */
  const parts = [];
  while (rest.length && rest[0] !== "}") parts.push(scripted(rest));
  return parts.length === 1 ? parts[0] : `<mrow>${parts.join("")}</mrow>`;
}

/** @param {string[]} rest */
function group(rest) {
  if (rest[0] !== "{") return single(rest);
  rest.shift();
  const inside = row(rest);
  rest.shift();
  return inside;
}

/** @param {string[]} rest */
function scripted(rest) {
  const base = group(rest);
  /** @type {Record<string, string>} */
  const scripts = {};
  while (rest[0] === "_" || rest[0] === "^") {
    const kind = /** @type {string} */ (rest.shift());
    scripts[kind] = group(rest);
  }
  const { _: low, "^": high } = scripts;
  if (low && high) return `<msubsup>${base}${low}${high}</msubsup>`;
  if (low) return `<msub>${base}${low}</msub>`;
  return high ? `<msup>${base}${high}</msup>` : base;
}

/** @param {string[]} rest @returns {string} */
function single(rest) {
  const token = rest.shift() ?? "";
  switch (token) {
    case "\\frac": {
      const over = group(rest);
      return `<mfrac>${over}${group(rest)}</mfrac>`;
    }
    case "\\sqrt":
      return `<msqrt>${group(rest)}</msqrt>`;
    case "\\text":
      return words(rest);
  }
  if (token.startsWith("\\")) return `<mi mathvariant="normal">${token.slice(1)}</mi><mo>&#x2061;</mo>`;
  if (/^\d/.test(token)) return `<mn>${token}</mn>`;
  if (token === "*") return "<mo>∗</mo>";
  if (OPERATORS.test(token)) return `<mo>${escaped(token === "-" ? "−" : token)}</mo>`;
  return `<mi>${escaped(token)}</mi>`;
}

/** The words in braces, a space at each _. @param {string[]} rest */
function words(rest) {
  let text = "";
  rest.shift();
  while (rest.length && rest[0] !== "}") text += rest.shift();
  rest.shift();
  return `<mtext>${escaped(text.replaceAll("_", "\u00a0"))}</mtext>`;
}

/** A number as it stands in a formula, powers of ten included. @param {number} value */
export function number(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "\\text{undefined}";
  const size = Math.abs(value);
  if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(+value.toPrecision(4)).replace("-", "−");
  const [digits, power] = value.toExponential(2).split("e");
  return `${+digits}·10^{${+power}}`;
}
