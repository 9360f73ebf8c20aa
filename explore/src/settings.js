/** The controls of the settings: a slider with its number, a list, a choice. */

import { escaped, shown } from "./draw.js";
import { fromSlider, read, toSlider } from "./state.js";

/** @typedef {import("./types").Field} Field @typedef {import("./types").State} State @typedef {import("./types").Value} Value */

/** @param {Field} field */
const slides = (field) => field.kind === "linear" || field.kind === "log";

/** @param {Field} field @param {Value} value */
function html(field, value) {
  const { key, label, kind, low, high, step, choices = [] } = field;
  const name = `<span>${escaped(label)}</span>`;
  if (kind === "choice") {
    const option = (/** @type {[Value, string]} */ [v, text]) =>
      `<option value="${v}"${v === value ? " selected" : ""}>${escaped(text)}</option>`;
    return `${name}<select id="set-${key}">${choices.map(option).join("")}</select>`;
  }
  if (kind === "list")
    return `${name}<input id="set-${key}" type="text" value="${escaped(String(value))}" autocomplete="off">`;
  const [from, to, by] = kind === "log" ? [0, 1000, 1] : [low, high, step];
  const place = `min="${from}" max="${to}" step="${by}" value="${toSlider(field, Number(value))}"`;
  const number = `<input id="number-${key}" class="number" type="text" inputmode="decimal" value="${value}"`;
  return (
    `${name}${number} aria-label="${escaped(label)}, as a number">` +
    `<input id="set-${key}" type="range" ${place} aria-valuetext="${shown(Number(value))}">`
  );
}

/**
 * A control; `change` is told the value, whether the reader is done, and what was wrong.
 * @param {Field} field
 * @param {Value} value
 * @param {(key: string, value: Value, done: boolean, wrong?: string) => void} change
 */
export function control(field, value, change) {
  const box = document.createElement("label");
  box.innerHTML = html(field, value);
  const input = /** @type {HTMLInputElement} */ (box.querySelector(`#set-${field.key}`));
  const number = /** @type {HTMLInputElement | null} */ (box.querySelector(".number"));
  const typed = (/** @type {HTMLInputElement} */ from) => () => {
    const found = read(field, from.value);
    change(field.key, found.value, true, found.wrong);
  };
  if (!slides(field)) input.onchange = typed(input);
  else {
    input.oninput = () => {
      const next = fromSlider(field, Number(input.value));
      if (number) number.value = String(next);
      input.setAttribute("aria-valuetext", shown(next));
      change(field.key, next, false);
    };
    if (number) number.onchange = typed(number);
  }
  return box;
}

/** Shows a state in its controls, those that matter. @param {Field[]} fields @param {State} state */
export function refresh(fields, state) {
  for (const field of fields) {
    const value = state[field.key];
    const input = /** @type {HTMLInputElement | null} */ (document.getElementById(`set-${field.key}`));
    const number = /** @type {HTMLInputElement | null} */ (document.getElementById(`number-${field.key}`));
    if (input) input.value = String(slides(field) ? toSlider(field, Number(value)) : value);
    if (number) number.value = String(value);
    const box = input?.closest("label");
    if (box) box.hidden = field.when ? !field.when(state) : false;
  }
}

/**
 * A number to three digits within the bounds of its field.
 * @param {Field} field
 * @param {number} value
 */
export const held = (field, value) => Math.min(field.high, Math.max(field.low, +value.toPrecision(3)));

/** One step by the keyboard: 5 % where the field is logarithmic. @param {Field} field @param {number} value @param {number} direction */
export function nudged(field, value, direction) {
  return held(field, field.kind === "log" ? value * 1.05 ** direction : value + direction * (field.step ?? 0.01));
}
