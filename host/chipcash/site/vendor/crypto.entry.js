export { sm2, sm3 } from "sm-crypto-v2";
export { p256 } from "@noble/curves/p256";
export { ed25519 } from "@noble/curves/ed25519";
export { sha256 } from "@noble/hashes/sha2";
export { gcmsiv } from "@noble/ciphers/aes";
