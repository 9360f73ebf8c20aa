/** Your run: the variables of a store, which Python has put into the page. */

import { csv } from "../code.js";
import { shown } from "../draw.js";
import { DASHES, INKS } from "../networks.js";

/** @typedef {import("../types").State} State @typedef {import("../types").Layer} Layer @typedef {import("../types").Figure} Figure */
/** @typedef {{title: string, units: string, dims: string[], coords: Record<string, (number | string)[]>, values: (number | null)[]}} Variable */
/** @typedef {{name: string, toml: string, variables: Record<string, Variable>}} Stored */

/** What Python has put there; null in a page without a store. @returns {Stored | null} */
function stored() {
  if (typeof document === "undefined") return null;
  return JSON.parse(document.getElementById("stored")?.textContent ?? "null");
}

const STORE = stored();
const NAMES = Object.keys(STORE?.variables ?? {});
const FIRST = ["mode_strength", "loss"].find((name) => NAMES.includes(name)) ?? NAMES[0] ?? "none";
const MOST_LINES = 12;

/** One row along the horizontal dimension, and the labels of where it stands. @typedef {{at: Record<string, number | string>, y: Float64Array}} Row */

/** @param {Variable} variable @returns {Row[]} */
export function rowsOf({ dims, coords, values }) {
  const sizes = dims.map((dim) => coords[dim].length);
  const length = sizes[sizes.length - 1];
  const count = values.length / length;
  return [...Array(count).keys()].map((row) => {
    /** @type {Record<string, number | string>} */
    const at = {};
    for (let d = dims.length - 2, rest = row; d >= 0; d--) {
      at[dims[d]] = coords[dims[d]][rest % sizes[d]];
      rest = Math.floor(rest / sizes[d]);
    }
    return { at, y: Float64Array.from(values.slice(row * length, (row + 1) * length), (v) => v ?? NaN) };
  });
}

/** Rows with the same labels but for a dimension. @param {Row[]} rows @param {string[]} without */
function grouped(rows, without) {
  /** @type {Map<string, Row[]>} */
  const groups = new Map();
  for (const row of rows) {
    const label = Object.entries(row.at)
      .filter(([dim]) => !without.includes(dim))
      .map(([dim, value]) => `${dim} ${typeof value === "number" ? shown(value) : value}`)
      .join(", ");
    groups.set(label, [...(groups.get(label) ?? []), row]);
  }
  return groups;
}

/** The line of some rows: their mean, stored or taken here over those that have a number. @param {Row[]} rows */
export function middle(rows) {
  const stored = rows.find((row) => row.at.statistic === "mean");
  if (stored) return stored.y;
  return rows[0].y.map((_, i) => {
    const known = rows.map((row) => row.y[i]).filter(Number.isFinite);
    return known.length ? known.reduce((sum, v) => sum + v, 0) / known.length : NaN;
  });
}

/** Whether positive numbers are spaced by equal ratios rather than by equal steps. @param {number[]} x */
export function geometric(x) {
  if (x.length < 3 || !(x[0] > 0)) return false;
  const ratio = (x[x.length - 1] / x[0]) ** (1 / (x.length - 1));
  return ratio > 1.05 && x.every((v, i) => Math.abs(Math.log(v / (x[0] * ratio ** i))) < 0.2 * Math.log(ratio));
}

/** @param {Variable} variable @param {boolean} logs @param {string} name @returns {Figure} */
function figure(variable, logs, name) {
  const along = variable.dims[variable.dims.length - 1];
  const x = variable.coords[along].map((v, i) => (typeof v === "number" ? v : i));
  const groups = [...grouped(rowsOf(variable), ["statistic", "trajectory"])].slice(0, MOST_LINES);
  /** @type {Layer[]} */
  const layers = [];
  let [low, high] = [Infinity, -Infinity];
  groups.forEach(([label, rows], k) => {
    const [ink, dash] = [INKS[k % 6], DASHES[(k + Math.floor(k / 6)) % 6]];
    const of = (/** @type {string} */ statistic) => rows.find((row) => row.at.statistic === statistic)?.y;
    const [down, up] = [of("q05"), of("q95")];
    const paths = rows.filter((row) => row.at.statistic === undefined);
    if (down && up) layers.push({ kind: "area", x, low: down, high: up, ink });
    if (paths.length > 1)
      layers.push({
        kind: "paths",
        x,
        y: Float64Array.from(paths.flatMap((row) => [...row.y])),
        count: paths.length,
        ink,
      });
    const y = middle(rows);
    layers.push({ kind: "line", x, y, ink, dash, name: label || "mean" });
    for (const line of [y, down ?? y, up ?? y])
      for (const v of line) {
        if (!Number.isFinite(v) || (logs && v <= 0)) continue;
        low = Math.min(low, v);
        high = Math.max(high, v);
      }
  });
  if (!(low <= high)) [low, high] = [logs ? 0.1 : 0, 1];
  const room = 0.06 * (high - low) || Math.abs(high) * 0.1 || 1;
  const y = logs
    ? { low: Math.max(low / 1.5, high * 1e-10), high: high * 1.5, log: true }
    : { low: low - room, high: high + room };
  return {
    title: name,
    text: `${groups.length} lines along ${along}, from ${shown(low)} to ${shown(high)}`,
    x: { label: along, low: x[0], high: x[x.length - 1], log: geometric(x) },
    y: { label: variable.units ? `${name} (${variable.units})` : name, ...y },
    layers,
    wide: true,
  };
}

/** @param {State} state */
const shownOf = (state) => STORE?.variables[String(state.variable)] ?? null;

/** @type {import("../types").View} */
export const run = {
  key: "run",
  title: "Your run",
  about: STORE
    ? `The store ${STORE.name}: what it holds, variable by variable.`
    : "Any store of a run, a sweep or a monitored training, in this page.",
  fields: STORE
    ? [
        {
          key: "variable",
          label: "variable",
          kind: "choice",
          value: FIRST,
          low: 0,
          high: 0,
          choices: NAMES.map((name) => [name, name]),
        },
        {
          key: "axis",
          label: "vertical axis",
          kind: "choice",
          value: "linear",
          low: 0,
          high: 0,
          choices: [
            ["linear", "linear"],
            ["log", "logarithmic"],
          ],
        },
      ]
    : [],
  presets: [],
  request: () => null,
  take: (known) => known,
  draw(state) {
    const variable = shownOf(state);
    if (!STORE || !variable)
      return {
        figures: [],
        formulas: [],
        numbers: [],
        notes: [],
        look: "This page holds no store. On your machine, “saddlescope explore STORE” opens it with the numbers of yours; add -o FILE.html to send it to others.",
      };
    const rows = [...grouped(rowsOf(variable), ["statistic", "trajectory"])];
    const last = rows.slice(0, MOST_LINES).map(([label, all]) => {
      const y = middle(all);
      return { key: label || "value", label: `last mean${label && `, ${label}`}`, value: y[y.length - 1] };
    });
    const name = String(state.variable);
    const missing = variable.values.filter((value) => value === null).length;
    return {
      figures: [figure(variable, state.axis === "log", name)],
      formulas: [],
      numbers: last,
      look:
        variable.title && variable.title !== name
          ? `${name}: ${variable.title}.`
          : `${name} along ${variable.dims[variable.dims.length - 1]}.`,
      notes: [
        ...(rows.length > MOST_LINES ? [`The first ${MOST_LINES} of ${rows.length} lines are drawn.`] : []),
        ...(missing ? [`${missing} of ${variable.values.length} numbers are missing, as of runs that diverged.`] : []),
      ],
    };
  },
  code: (state) => ({
    python: `import saddlescope as sc\n\nrun = sc.load("${STORE?.name ?? "run.zarr"}")\nprint(run["${state.variable ?? "loss"}"])\n${STORE?.toml ? 'sc.plot(run).savefig("run.png")\n' : ""}`,
    toml: STORE?.toml || "# This store has no run file.\n",
  }),
  csv(state) {
    const variable = shownOf(state);
    if (!variable) return csv([], []);
    const others = variable.dims.slice(0, -1);
    const along = variable.dims[variable.dims.length - 1];
    const rows = rowsOf(variable).flatMap((row) =>
      [...row.y].map((v, i) => [...others.map((dim) => row.at[dim]), variable.coords[along][i], v]),
    );
    return csv([...variable.dims, String(state.variable)], rows);
  },
};
