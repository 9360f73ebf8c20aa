/** Shades of grey as a PNG in a data address, without a canvas: one block that is stored, not compressed. */

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** @param {number} value */
const word = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

/** @param {string} name @param {number[]} data */
function chunk(name, data) {
  const body = [...name].map((letter) => letter.charCodeAt(0)).concat(data);
  const crc = ~body.reduce((c, byte) => CRC[(c ^ byte) & 255] ^ (c >>> 8), -1);
  return [...word(data.length), ...body, ...word(crc)];
}

/**
 * The address of a picture of at most 65,535 bytes, a byte a pixel, the top row first.
 * @param {Uint8Array} grey
 * @param {number} columns
 * @param {number} rows
 */
export function png(grey, columns, rows) {
  const lines = [];
  for (let row = 0; row < rows; row++) lines.push(0, ...grey.subarray(row * columns, (row + 1) * columns));
  const size = [lines.length & 255, lines.length >>> 8];
  let [a, b] = [1, 0];
  for (const byte of lines) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  const stored = [0x78, 1, 1, ...size, ...size.map((byte) => byte ^ 255), ...lines, b >>> 8, b & 255, a >>> 8, a & 255];
  const head = [...word(columns), ...word(rows), 8, 0, 0, 0, 0];
  const file = [
    ...[137, 80, 78, 71, 13, 10, 26, 10],
    ...chunk("IHDR", head),
    ...chunk("IDAT", stored),
    ...chunk("IEND", []),
  ];
  let text = "";
  for (const byte of file) text += String.fromCharCode(byte);
  return `data:image/png;base64,${btoa(text)}`;
}
