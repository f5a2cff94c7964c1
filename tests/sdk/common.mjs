// What the Node scripts share: one check is one call made three times.
//
// Directly to the upstream, through a cold cache and through a warm one. What the client library makes of the three
// answers has to be equal, down to the order. Ids and times are compared by their pattern only (which of them are
// equal to which), since a replayed answer may be given fresh ones.

import assert from "node:assert/strict";

const url = (name) => {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value.replace(/\/$/, "");
};
export const URL = url("THRIFTY_URL");
export const DIRECT_URL = url("THRIFTY_DIRECT_URL");

// Where an answer came from, in the header `thrifty-served`.
const UPSTREAM = ["upstream"];
const CACHE = ["memory", "disk", "flight"];

const IDENTITIES = /^(id|item_id|itemId|call_id|tool_call_id|toolCallId|response_id|responseId|obfuscation)$/;
const TIMES = /^(created|created_at|completed_at|timestamp|stepTimeMs|responseTimeMs|.*(Duration|Ms|PerSecond))$/;

/** An answer as nested plain values, with the names of the classes in it. */
function plain(value, names, key = "") {
  if (value === null || value === undefined) return value;
  if (typeof value === "string" && IDENTITIES.test(key)) {
    if (!names.has(value)) names.set(value, `<id ${names.size}>`);
    return names.get(value);
  }
  if (TIMES.test(key)) return "<time>";
  if (Array.isArray(value)) return value.map((item) => plain(item, names, key));
  if (value instanceof Date || ArrayBuffer.isView(value)) return String(value);
  if (typeof value !== "object") return value;
  const out = {};
  if (value.constructor && value.constructor !== Object) out[""] = value.constructor.name;
  for (const [name, field] of Object.entries(value)) {
    if (typeof field !== "function") out[name] = plain(field, names, name);
  }
  return out;
}

export function fail(name, why) {
  console.log(`FAIL ${name}: ${why}`);
  process.exit(1);
}

export class Checks {
  constructor(make) {
    this.direct = make(DIRECT_URL);
    this.through = make(URL);
  }

  /** `ask(client)` gives `[served, answer]`; `look(answer)` may throw when it holds the wrong things. */
  async call(name, ask, look = () => {}, cached = true) {
    const steps = [
      ["direct", this.direct, UPSTREAM],
      ["uncached", this.through, UPSTREAM],
      ["cached", this.through, cached ? CACHE : UPSTREAM],
    ];
    let before;
    for (const [step, client, expected] of steps) {
      let served, answer;
      try {
        [served, answer] = await ask(client);
      } catch (error) {
        fail(name, `the ${step} call failed: ${error?.stack ?? error}`);
      }
      if (!expected.includes(served)) {
        fail(name, `the ${step} call was served from ${served}, not from ${expected.join(" or ")}`);
      }
      try {
        look(answer);
      } catch (error) {
        const shown = JSON.stringify(answer)?.slice(0, 600);
        fail(name, `the ${step} answer is not as it should be: ${error.message}, in ${shown}`);
      }
      const now = [step, plain(answer, new Map())];
      if (before) {
        try {
          assert.deepStrictEqual(now[1], before[1]);
        } catch (error) {
          fail(name, `${now[0]} and ${before[0]} differ: ${error.message.slice(0, 1500)}`);
        }
      }
      before = now;
    }
    const told = cached ? "cached answer equal to" : "never cached;";
    console.log(`ok   ${name}: ${told} the uncached and the direct one`);
  }

  /** `ask(client)` has to reject with the library's own `Kind`, with all `parts` in its message, each time. */
  async error(name, ask, Kind, ...parts) {
    let said;
    for (const [step, client] of [["direct", this.direct], ["first", this.through], ["second", this.through]]) {
      let answer;
      try {
        answer = await ask(client);
      } catch (error) {
        if (!(error instanceof Kind)) {
          fail(name, `the ${step} call threw ${error?.constructor?.name}, not ${Kind.name}: ${error?.message}`);
        }
        said = `${error.status ?? error.statusCode} ${error.message}`;
        for (const part of parts) {
          if (!said.includes(part)) fail(name, `the ${step} message does not say '${part}': ${said}`);
        }
        continue;
      }
      fail(name, `the ${step} call threw nothing and gave ${JSON.stringify(answer)?.slice(0, 300)}`);
    }
    console.log(`ok   ${name}: ${Kind.name}, '${said.slice(0, 120)}'`);
  }
}

export function need(fact, what) {
  if (!fact) throw new Error(`there is not ${what}`);
}
