/** The law in time as shades of grey: how much of it lies in each row of a figure, one column a time. */

import { normalCdf, scoreOf } from "./table.js";

/** @typedef {import("./evolution.js").Evolution} Evolution */

const SOFT = 0.6; // below 1, thin parts of a law stay visible beside its peak

/**
 * Shades (rows, times) from 0 to 255, the top row first: the law in each row, relative to the fullest at that time.
 * @param {Evolution} law
 * @param {number} low
 * @param {number} high
 * @param {number} rows
 */
export function shades(law, low, high, rows) {
  const times = law.strengths.length / law.z.length;
  const grey = new Uint8Array(rows * times);
  const share = new Float64Array(rows);
  for (let time = 0; time < times; time++) {
    let below = normalCdf(scoreOf(law, time, low));
    for (let k = 0; k < rows; k++) {
      const now = normalCdf(scoreOf(law, time, low + ((high - low) * (k + 1)) / rows));
      share[k] = now - below;
      below = now;
    }
    const most = Math.max(1e-9, ...share);
    for (let k = 0; k < rows; k++)
      grey[(rows - 1 - k) * times + time] = Math.round(255 * (Math.max(0, share[k]) / most) ** SOFT);
  }
  return { grey, columns: times, rows };
}
