/** Shades of grey as a PNG in a data address, without a canvas: one block that is stored, not compressed. */

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** @param {number} value */
const word = (value) => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

/** A chunk with its length and check. @param {string} name @param {ArrayLike<number>} data */
function chunk(name, data) {
  const whole = new Uint8Array(data.length + 12);
  whole.set(word(data.length));
  for (let i = 0; i < 4; i++) whole[4 + i] = name.charCodeAt(i);
  whole.set(data, 8);
  let crc = -1;
  for (let i = 4; i < data.length + 8; i++) crc = CRC[(crc ^ whole[i]) & 255] ^ (crc >>> 8);
  whole.set(word(~crc), data.length + 8);
  return whole;
}

/**
 * The address of a picture of at most 65,535 bytes, a byte a pixel, the top row first.
 * @param {Uint8Array} grey
 * @param {number} columns
 * @param {number} rows
 */
export function png(grey, columns, rows) {
  const size = rows * (columns + 1);
  const stored = new Uint8Array(7 + size + 4);
  const ends = [size & 255, size >>> 8];
  stored.set([0x78, 1, 1, ...ends, ...ends.map((byte) => byte ^ 255)]);
  for (let row = 0; row < rows; row++)
    stored.set(grey.subarray(row * columns, (row + 1) * columns), 7 + row * (columns + 1) + 1);
  let [a, b] = [1, 0];
  for (let i = 7; i < 7 + size; i++) {
    a = (a + stored[i]) % 65521;
    b = (b + a) % 65521;
  }
  stored.set([b >>> 8, b & 255, a >>> 8, a & 255], 7 + size);
  const head = [...word(columns), ...word(rows), 8, 0, 0, 0, 0];
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  let text = "";
  for (const part of [signature, chunk("IHDR", head), chunk("IDAT", stored), chunk("IEND", [])])
    for (const byte of part) text += String.fromCharCode(byte);
  return `data:image/png;base64,${btoa(text)}`;
}
