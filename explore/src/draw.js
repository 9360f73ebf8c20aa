/** Figures as SVG, written by hand: axes, and layers over each other. Colours are variables of the style sheet. */

import { png } from "./png.js";

/** @typedef {import("./types").Figure} Figure @typedef {import("./types").Axis} Axis @typedef {import("./types").Layer} Layer */

const FONT = 12;
const MARGIN = { left: 54, right: 14, bottom: 40 };

/** A number for readers: four digits, powers of ten where it is very large or small. @param {number} value */
export function shown(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "—" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e5 || size < 1e-3)) {
    const [digits, power] = value.toExponential(2).split("e");
    return `${+digits}·10${raised(+power)}`.replace(/-/g, "−");
  }
  return String(+value.toPrecision(4)).replace("-", "−");
}

/** @param {number} power */
const raised = (power) => String(power).replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

/** @param {string} text */
export const escaped = (text) =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c] ?? c);

/** Places of ticks along an axis. @param {Axis} axis @param {number} room in pixels @param {number} apart */
export function ticks(axis, room, apart = 60) {
  const { low, high, log } = axis;
  if (log) {
    const [from, to] = [Math.ceil(Math.log10(low) - 1e-9), Math.floor(Math.log10(high) + 1e-9)];
    const every = Math.max(1, Math.ceil((to - from + 1) / Math.max(2, room / (0.7 * apart))));
    const found = [];
    for (let k = from; k <= to; k += every) found.push(10 ** k);
    return found;
  }
  const raw = (high - low) / Math.max(2, room / apart);
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((k) => k >= raw) ?? raw;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return found;
}

/** @param {number} value @param {boolean | undefined} log */
function tickLabel(value, log) {
  if (log) return `10${raised(Math.round(Math.log10(value)))}`;
  return shown(+value.toPrecision(10));
}

/** From a value to a place, and back. @param {Axis} axis @param {number} from @param {number} to */
export function scale(axis, from, to) {
  const [f, g] = axis.log ? [Math.log, Math.exp] : [(/** @type {number} */ v) => v, (/** @type {number} */ v) => v];
  const [low, high] = [f(axis.low), f(axis.high)];
  const slope = (to - from) / (high - low || 1);
  const at = (/** @type {number} */ v) => from + (f(axis.log ? Math.max(v, axis.low * 1e-3) : v) - low) * slope;
  return Object.assign(at, { back: (/** @type {number} */ x) => g(low + (x - from) / slope) });
}

/** Names of layers in lines above the figure, which fit its width. @param {Layer[]} layers @param {number} width */
function legend(layers, width) {
  let [x, line] = [MARGIN.left, 0];
  const parts = [];
  for (const layer of layers) {
    if (!("name" in layer) || !layer.name) continue;
    if (layer.kind === "marks" && !layer.at.some(Number.isFinite)) continue;
    const room = 34 + 7.2 * layer.name.length;
    if (x > MARGIN.left && x + room > width) [x, line] = [MARGIN.left, line + 1];
    const y = 30 + 16 * line;
    parts.push(`${swatch(layer, x, y)}<text x="${x + 22}" y="${y + 4}">${escaped(layer.name)}</text>`);
    x += room;
  }
  return { svg: parts.join(""), lines: parts.length ? line + 1 : 0 };
}

/** @param {Layer} layer @param {number} x @param {number} y */
function swatch(layer, x, y) {
  const ink = "ink" in layer ? layer.ink : "--c1";
  if (layer.kind === "area" || layer.kind === "bars" || layer.kind === "heat" || layer.kind === "shade") {
    return `<rect x="${x}" y="${y - 5}" width="18" height="10" fill="var(${ink})" opacity=".3"/>`;
  }
  if (layer.kind === "dot") return `<circle cx="${x + 9}" cy="${y}" r="5" fill="var(${ink})"/>`;
  const pattern = ("dash" in layer && layer.dash) || (layer.kind === "marks" ? "2 4" : "");
  const dash = pattern ? ` stroke-dasharray="${pattern}"` : "";
  const thin = layer.kind === "paths" ? ` stroke-width="1" opacity=".5"` : ` stroke-width="2.2"`;
  return `<path d="M${x} ${y}h18" stroke="var(${ink})"${dash}${thin}/>`;
}

/** @typedef {((v: number) => number) & {back: (x: number) => number}} Scale */

/**
 * Points as the d of a path, to a fraction of a pixel; breaks where a number is missing.
 * @param {ArrayLike<number>} xs @param {ArrayLike<number>} ys @param {Scale} X @param {Scale} Y
 * @param {number} from @param {number} count @param {number} parts of a pixel
 */
function points(xs, ys, X, Y, from = 0, count = xs.length, parts = 10) {
  let [d, pen] = ["", "M"];
  for (let i = 0; i < count; i++) {
    const y = Y(ys[from + i]);
    if (!Number.isFinite(y)) pen = "M";
    else {
      // toFixed takes three times as long
      d += `${pen}${Math.round(X(xs[i]) * parts) / parts} ${Math.round(Math.max(-2e3, Math.min(4e3, y)) * parts) / parts}`;
      pen = "L";
    }
  }
  return d;
}

/** @param {Layer} layer @param {Scale} X @param {Scale} Y @param {{left: number, right: number, top: number, bottom: number}} box @param {string} id */
function layerSvg(layer, X, Y, box, id) {
  switch (layer.kind) {
    case "line": {
      const { width = 2.2, dash, opacity = 1 } = layer;
      const more = dash ? ` stroke-dasharray="${dash}"` : "";
      return `<path d="${points(layer.x, layer.y, X, Y)}" stroke="var(${layer.ink})" stroke-width="${width}" opacity="${opacity}"${more}/>`;
    }
    case "paths": {
      let d = "";
      for (let k = 0; k < layer.count; k++) d += points(layer.x, layer.y, X, Y, k * layer.x.length, layer.x.length, 1);
      return `<path d="${d}" stroke="var(${layer.ink})" stroke-width=".7" opacity="${layer.opacity ?? 0.35}"/>`;
    }
    case "area": {
      const back = [...Array(layer.x.length).keys()].reverse();
      const there = points(layer.x, layer.high, X, Y);
      const home = points(
        back.map((i) => layer.x[i]),
        back.map((i) => layer.low[i]),
        X,
        Y,
      ).replace("M", "L");
      return `<path d="${there}${home}Z" fill="var(${layer.ink})" stroke="none" opacity=".22"/>`;
    }
    case "bars": {
      let d = "";
      for (let i = 0; i < layer.y.length; i++) {
        if (!(layer.y[i] > 0)) continue;
        const [x, y] = [X(layer.edges[i]), Y(layer.y[i])];
        d += `M${x.toFixed(1)} ${box.bottom}V${y.toFixed(1)}H${X(layer.edges[i + 1]).toFixed(1)}V${box.bottom}Z`;
      }
      return `<path d="${d}" fill="var(${layer.ink})" stroke="none" opacity=".38"/>`;
    }
    case "heat": {
      let cells = "";
      const [nx, ny] = [layer.x.length - 1, layer.y.length - 1];
      for (let i = 0; i < nx; i++)
        for (let j = 0; j < ny;) {
          const [z, from] = [layer.z[i * ny + j], j];
          while (j < ny && layer.z[i * ny + j] === z) j++; // one rectangle for equal cells
          if (!(z > 0.02)) continue;
          const [x, y] = [X(layer.x[i]), Y(layer.y[j])];
          const size = `width="${(X(layer.x[i + 1]) - x).toFixed(1)}" height="${(Y(layer.y[from]) - y).toFixed(1)}"`;
          cells += `<rect x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${size} opacity="${(0.75 * Math.min(1, z)).toFixed(2)}"/>`;
        }
      return `<g fill="var(--c1)" stroke="none" shape-rendering="crispEdges">${cells}</g>`;
    }
    case "shade": {
      const half = (layer.x[1] - layer.x[0]) / 2; // a column lies around its time
      const [left, right] = [X(layer.x[0] - half), X(layer.x[layer.x.length - 1] + half)];
      const [top, bottom] = [Y(layer.high), Y(layer.low)];
      const place = `x="${left.toFixed(1)}" y="${top.toFixed(1)}" width="${(right - left).toFixed(1)}" height="${(bottom - top).toFixed(1)}"`;
      const image = `<image ${place} preserveAspectRatio="none" href="${png(layer.grey, layer.columns, layer.rows)}"/>`;
      return `<mask id="${id}-shade" maskUnits="userSpaceOnUse" ${place}>${image}</mask><rect ${place} fill="var(${layer.ink})" opacity=".8" mask="url(#${id}-shade)"/>`;
    }
    case "marks": {
      const dash = ` stroke-dasharray="${layer.dash ?? "2 4"}"`;
      const d = layer.at
        .filter((v) => Number.isFinite(v))
        .map((v) =>
          layer.along === "x"
            ? `M${X(v).toFixed(1)} ${box.top}V${box.bottom}`
            : `M${box.left} ${Y(v).toFixed(1)}H${box.right}`,
        )
        .join("");
      return `<path d="${d}" stroke="var(${layer.ink})" stroke-width="1.3"${dash}/>`;
    }
    case "dot":
      return `<circle cx="${X(layer.x).toFixed(1)}" cy="${Y(layer.y).toFixed(1)}" r="5" fill="var(${layer.ink})" stroke="var(--paper)"/>`;
    case "text":
      return `<text x="${X(layer.x).toFixed(1)}" y="${Y(layer.y).toFixed(1)}" text-anchor="middle" class="place">${escaped(layer.text)}</text>`;
    case "handle": {
      const place = `cx="${X(layer.x).toFixed(1)}" cy="${Y(layer.y).toFixed(1)}"`;
      const data = `data-key="${layer.key}" data-moves="${layer.moves}"${layer.keyX ? ` data-key-x="${layer.keyX}"` : ""}`;
      return `<circle ${place} r="9" class="handle" ${data} tabindex="0" role="slider" aria-label="${escaped(layer.label)}" aria-valuenow="${layer.moves === "x" ? layer.x : layer.y}"/>`;
    }
  }
}

/** @param {Axis} axis @param {Scale} at @param {{left: number, right: number, top: number, bottom: number}} box @param {boolean} across */
function axisSvg(axis, at, box, across) {
  let svg = "";
  for (const value of ticks(axis, across ? box.right - box.left : box.bottom - box.top, across ? 60 : 36)) {
    const place = at(value).toFixed(1);
    svg += across
      ? `<path d="M${place} ${box.top}V${box.bottom}" class="grid"/>`
      : `<path d="M${box.left} ${place}H${box.right}" class="grid"/>`;
    const where = across
      ? `x="${place}" y="${box.bottom + 15}" text-anchor="middle"`
      : `x="${box.left - 6}" y="${+place + 4}" text-anchor="end"`;
    svg += `<text ${where} class="tick">${tickLabel(value, axis.log)}</text>`;
  }
  const middle = across ? (box.left + box.right) / 2 : (box.top + box.bottom) / 2;
  const where = across ? `x="${middle}" y="${box.bottom + 33}"` : `transform="translate(13 ${middle}) rotate(-90)"`;
  return `${svg}<text ${where} text-anchor="middle" class="soft">${escaped(axis.label)}</text>`;
}

/**
 * A figure of a given size as SVG text.
 * @param {Figure} figure
 * @param {number} width
 * @param {number} height
 * @param {string} id
 */
export function svg(figure, width, height, id) {
  const names = legend(figure.layers, width);
  const box = {
    left: MARGIN.left,
    right: width - MARGIN.right,
    top: 28 + 16 * names.lines,
    bottom: height - MARGIN.bottom,
  };
  const X = scale(figure.x, box.left, box.right);
  const Y = scale(figure.y, box.bottom, box.top);
  const inside = `<clipPath id="${id}-box"><rect x="${box.left}" y="${box.top - 2}" width="${box.right - box.left}" height="${box.bottom - box.top + 4}"/></clipPath>`;
  const floating = figure.layers.filter((layer) => layer.kind === "handle");
  const fixed = figure.layers.filter((layer) => layer.kind !== "handle");
  const label = `${figure.title}. ${figure.text}`;
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="${floating.length ? "group" : "img"}" aria-label="${escaped(label)}" font-size="${FONT}" fill="none" data-box="${[box.left, box.right, box.top, box.bottom]}">` +
    `<title>${escaped(label)}</title>${inside}<text x="${MARGIN.left}" y="14" class="title">${escaped(figure.title)}</text>${names.svg}` +
    `${axisSvg(figure.x, X, box, true)}${axisSvg(figure.y, Y, box, false)}` +
    `<g clip-path="url(#${id}-box)" stroke-linejoin="round">${fixed.map((layer) => layerSvg(layer, X, Y, box, id)).join("")}</g>` +
    `<path d="M${box.left} ${box.top}V${box.bottom}H${box.right}" stroke="var(--grey)"/>` +
    `${floating.map((layer) => layerSvg(layer, X, Y, box, id)).join("")}</svg>`
  );
}
