// SPDX-License-Identifier: Apache-2.0
// Byte strings: hex, base64, joining, comparing.

const UTF8 = new TextEncoder();

/** The bytes of a text in UTF-8. */
export function utf8(text) {
  return UTF8.encode(text);
}

/** Lower-case hex. */
export function toHex(data) {
  return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes from hex. Throws on anything else. */
export function fromHex(text) {
  if (text.length % 2 || !/^[0-9a-fA-F]*$/.test(text)) throw new Error("no hex");
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => parseInt(text.substr(2 * i, 2), 16));
}

export function toBase64(data) {
  return btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
}

/** Bytes from base64, which must be the only way to write them. Throws. */
export function fromBase64(text) {
  const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  if (toBase64(data) !== text) throw new Error("base64 is not canonical");
  return data;
}

export function join(...parts) {
  const data = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return data;
}

export function equal(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** A number of so many bytes, big endian. */
export function uint(data) {
  return data.reduce((value, byte) => value * 256 + byte, 0);
}
