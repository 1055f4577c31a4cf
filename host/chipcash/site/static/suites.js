// SPDX-License-Identifier: Apache-2.0
// Hashes and signatures of both suites, Ed25519 and the records' cipher, over libraries of others.
//
// Not WebCrypto: it has no SM2 and SM3, no compressed keys, Ed25519 only in newer browsers, and nothing at all
// where a page comes without TLS.

import { equal, fromHex, toHex } from "./bytes.js";
import { ed25519, gcmsiv, p256, sha256, sm2, sm3 } from "./vendor/crypto.js";

export { sha256 };

const GM = 1;
const SM2_ORDER = 0xfffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123n;

/** The suite of an object or header: 1 gm, 2 p256. */
export function suiteOf(header) {
  return header[5];
}

/** The suite's hash, 32 bytes. */
export function hash(suite, data) {
  return suite === GM ? fromHex(sm3(data)) : sha256(data);
}

/** Whether a signature, r and s, over a message verifies under a compressed key. Never throws. */
export function verify(suite, key, message, signature) {
  try {
    if (suite !== GM) return p256.verify(signature, sha256(message), key, { lowS: false });
    const text = toHex(signature);
    // The library leaves the range of r and s to its caller.
    const numbers = [text.slice(0, 64), text.slice(64)].map((half) => BigInt(`0x${half}`));
    if (numbers.some((each) => each === 0n || each >= SM2_ORDER)) return false;
    return sm2.doVerifySignature(message, text, toHex(key), { hash: true, der: false });
  } catch {
    return false; // no point, or no numbers in range
  }
}

/** Whether an Ed25519 signature verifies (RFC 8032). */
export function verifyEd25519(key, message, signature) {
  try {
    return ed25519.verify(signature, message, key, { zip215: false });
  } catch {
    return false;
  }
}

/** The text that AES-256-GCM-SIV sealed with a nonce of zeros; null if it is not this key's. */
export function unseal(key, sealed) {
  try {
    return gcmsiv(key, new Uint8Array(12)).decrypt(sealed);
  } catch {
    return null;
  }
}

/** The id of an object: of what is signed, or of all of it. */
export function idOf(obj) {
  const { header } = obj;
  return hash(suiteOf(header), obj.message ?? obj.bytes);
}

/** A network as config.json tells it: whom to believe. Throws if its certificates are not its own. */
export class Network {
  constructor(told, decode) {
    this.certificationKey = fromHex(told.certification_key);
    const suite = { gm: 1, p256: 2 }[told.suite];
    this.header = Uint8Array.from([...fromHex(told.network), 1, suite]);
    const certificates = told.certificates.map((text) => decode(fromHex(text)));
    for (const each of certificates) {
      if (each.kind !== "certificate" || !this.signed(each, this.certificationKey)) {
        throw new Error("a certificate of the network is not signed by its certification key");
      }
    }
    const only = (role) => {
      const found = certificates.filter((each) => each.role === role);
      if (found.length !== 1) throw new Error("the network has not one certificate of each role");
      return found[0].subject;
    };
    this.issuerKey = only(1n);
    this.centerKey = only(2n);
  }

  /** Whether an object is of this network, version and suite. */
  accepts(obj) {
    return equal(obj.header, this.header);
  }

  /** Whether an object is of this network and signed by a key, which it also names if it names its signer. */
  signed(obj, key) {
    if (!this.accepts(obj)) return false;
    const suite = suiteOf(this.header);
    if (obj.signer && !equal(obj.signer, hash(suite, key).slice(0, 8))) return false;
    return verify(suite, key, obj.message, obj.signature);
  }
}
