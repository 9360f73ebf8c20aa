/**
 * A view as one picture, for where no script runs: `node explore/src/still.js ADDRESS FILE.svg` after `make page`.
 *
 * The address is that of the page, `view=mode&T=0.05`; the picture holds the first two rows of figures, and is light
 * or dark as its reader prefers.
 */

import { readFileSync, writeFileSync } from "node:fs";

import { svg } from "./draw.js";
import { kernels } from "./engine.js";
import { RULES } from "./files.js";
import { JOBS } from "./jobs.js";
import { fromQuery } from "./state.js";
import { VIEWS } from "./views.js";

/** @typedef {import("./types").Figure} Figure */

const [WIDTH, GAP] = [860, 14];
const [WIDE, HIGH] = [330, 290]; // heights of a figure as wide as the picture, and of one of two in a row
const FOLDER = new URL(".", import.meta.url);

/** Figures in rows: one that is wide, or two. @param {Figure[]} figures */
function rows(figures) {
  /** @type {Figure[][]} */
  const found = [];
  for (const figure of figures) {
    const last = found[found.length - 1];
    if (last && last.length < 2 && !last[0].wide && !figure.wide) last.push(figure);
    else found.push([figure]);
  }
  return found;
}

/** The picture of figures. @param {Figure[]} figures */
export function still(figures) {
  /** @type {string[]} */
  const parts = [];
  let top = 0;
  for (const [k, row] of rows(figures).slice(0, 2).entries()) {
    const [width, height] = row[0].wide ? [WIDTH, WIDE] : [(WIDTH - GAP) / 2, HIGH];
    row.forEach((figure, j) => {
      const text = svg(figure, width, height, `f${k}${j}`);
      parts.push(text.replace("<svg ", `<svg x="${j * (width + GAP)}" y="${top}" `));
    });
    top += height + GAP;
  }
  const style = readFileSync(new URL("style.css", FOLDER), "utf8");
  const colours = style.slice(0, style.indexOf("* {")); // they come first there
  const size = `viewBox="0 0 ${WIDTH} ${top - GAP}" width="${WIDTH}" height="${top - GAP}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size}><style>${colours}${RULES}</style>${parts.join("")}</svg>\n`;
}

/** The figures of an address, computed to the end. @param {string} address */
export async function figures(address) {
  const query = new URLSearchParams(address);
  const view = VIEWS.find(({ key }) => key === query.get("view"));
  const { state, wrong } = fromQuery(view?.fields ?? [], query);
  if (!view) wrong.push(`view must be one of ${VIEWS.map(({ key }) => key).join(", ")}, got ${query.get("view")}`);
  if (!view || wrong.length) throw new Error(wrong.join("\n"));
  const request = view.request(state, true);
  let known = null;
  if (request) {
    const kernel = await kernels(readFileSync(new URL("../../build/explore/page.wasm", FOLDER)));
    for (const part of JOBS[request.job](kernel, request)) if (part) known = view.take(known, part);
  }
  return view.draw(state, known).figures;
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const [address, file] = process.argv.slice(2);
  writeFileSync(file, still(await figures(address)));
}
