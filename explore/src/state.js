/** The state of a view in the address: every setting by its key, read with kindness. */

/** @typedef {import("./types").Field} Field @typedef {import("./types").State} State @typedef {import("./types").Value} Value */

/** The numbers of a list such as "4, 2, 1". @param {Value} value */
export const listOf = (value) =>
  String(value)
    .split(/[,\s]+/)
    .filter(Boolean)
    .map(Number);

/**
 * A setting from text: its value, or the default and a sentence about what was wrong.
 * @param {Field} field
 * @param {string} text
 * @returns {{value: Value, wrong?: string}}
 */
export function read(field, text) {
  const { key, kind, low, high, step = 0, most = 8, choices = [], zero } = field;
  if (kind === "choice") {
    const found = choices.find(([value]) => String(value) === text);
    if (found) return { value: found[0] };
    return {
      value: field.value,
      wrong: `${key} must be ${choices.map(([v]) => v).join(" or ")}, got “${text}”; ${field.value} is used.`,
    };
  }
  if (kind === "list") {
    const values = listOf(text);
    if (values.length && values.length <= most && values.every((v) => v >= low && v <= high))
      return { value: values.sort((a, b) => b - a).join(", ") };
    return {
      value: field.value,
      wrong: `${key} must be 1 to ${most} numbers from ${low} to ${high}, got “${text}”; ${field.value} is used.`,
    };
  }
  const value = text.trim() === "" ? NaN : Number(text);
  if (Number.isNaN(value))
    return { value: field.value, wrong: `${key} must be a number, got “${text}”; ${field.value} is used.` };
  if (zero && value === 0) return { value };
  const whole = kind === "linear" && step >= 1 ? Math.round(value) : value;
  const held = Math.min(high, Math.max(low, whole));
  if (held === whole) return { value: held };
  return { value: held, wrong: `${key} must be from ${low} to ${high}, got ${text}; ${held} is used.` };
}

/**
 * The settings of a view from an address, and a sentence for each that had to be changed.
 * @param {Field[]} fields
 * @param {URLSearchParams} query
 */
export function fromQuery(fields, query) {
  /** @type {State} */
  const state = {};
  /** @type {string[]} */
  const wrong = [];
  for (const field of fields) {
    const text = query.get(field.key);
    const found = text === null ? { value: field.value } : read(field, text);
    state[field.key] = found.value;
    if ("wrong" in found && found.wrong) wrong.push(found.wrong);
  }
  return { state, wrong };
}

/** The address of a state. @param {string} view @param {State} state */
export function toQuery(view, state) {
  const query = new URLSearchParams({ view });
  for (const [key, value] of Object.entries(state)) query.set(key, String(value).replaceAll(", ", ","));
  return query.toString().replaceAll("%2C", ",");
}

/** The place of a value on a slider from 0 to 1000, and back to three digits. @param {Field} field @param {number} value */
export function toSlider(field, value) {
  const { kind, low, high } = field;
  if (kind !== "log") return value;
  return value < low ? 0 : (1000 * Math.log(value / low)) / Math.log(high / low);
}

/** @param {Field} field @param {number} place */
export function fromSlider(field, place) {
  const { kind, low, high, zero } = field;
  if (kind !== "log") return place;
  if (zero && place === 0) return 0;
  return Math.min(high, Math.max(low, +(low * (high / low) ** (place / 1000)).toPrecision(3)));
}
