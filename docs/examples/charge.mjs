// SPDX-License-Identifier: Apache-2.0
// A till in JavaScript that takes chipcash: node charge.mjs URL TOKEN-FILE ORDER FEN
// Whatever ends in between, run it again with the same order: the card pays once.

import { readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";

const [url, tokenFile, order, fen] = process.argv.slice(2);
const authorization = `Bearer ${readFileSync(tokenFile, "utf8").trim()}`;

async function ask(method, path, body) {
  for (let tries = 1; ; tries++) {
    try {
      const answer = await fetch(url + path, {
        method,
        headers: { authorization, ...(body && { "content-type": "application/json" }) },
        body: body && JSON.stringify(body),
      });
      const told = await answer.json();
      if (answer.ok) return told;
      if (answer.status < 500 || tries > 20) throw new Error(`${told.message} ${told.hint}`);
    } catch (error) {
      if (!(error instanceof TypeError) || tries > 20) throw error; // TypeError: the line broke
    }
    await setTimeout(500);
  }
}

const charge = { reference: order, amount_fen: Number(fen) };
let sale = await ask("POST", "/v1/payments", charge);
while (!sale.ended) {
  console.log(`${sale.state} ${sale.message}`);
  if (!sale.at_till) sale = await ask("POST", "/v1/payments", charge); // the till was begun anew
  const known = `wait=30&known=${sale.state}`;
  sale = await ask("GET", `/v1/payments/${encodeURIComponent(order)}?${known}`);
}
console.log(`${sale.state} ${sale.message}`.trim());
process.exitCode = sale.state === "PAID" ? 0 : 1;
