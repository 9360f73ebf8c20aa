/** Downloads: text, and figures as files that carry the colours of the page. */

/** @param {string} name @param {string} text @param {string} type */
export function download(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const INKS = ["--paper", "--ink", "--grey", "--line", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];

/** The style of a figure outside the page, where its colours are known. */
export const RULES =
  "svg{background:var(--paper);font-family:sans-serif}text{fill:var(--ink)}.tick,.soft{fill:var(--grey)}.title{font-weight:600}.place{paint-order:stroke;stroke:var(--paper);stroke-width:3px}.grid{stroke:var(--line)}.handle{fill:var(--c2)}";

/** A figure as a file, with the colours and letters it has on the page. @param {SVGElement} picture */
export function figureFile(picture) {
  const page = getComputedStyle(document.documentElement);
  const inks = INKS.map((ink) => `${ink}:${page.getPropertyValue(ink).trim()}`).join(";");
  const copy = /** @type {SVGElement} */ (picture.cloneNode(true));
  copy.insertAdjacentHTML("afterbegin", `<style>svg{${inks}}${RULES}</style>`);
  return new XMLSerializer().serializeToString(copy);
}
