// What the Node scripts share: one check is one call made three times.
//
// Past the cache, through the cold cache and through the warm one. What the client library makes of the three answers
// has to be equal, down to the order. Ids and times are compared by their pattern only (which of them are equal to
// which), since a replayed answer may be given fresh ones.
//
// Where an answer came from is told by the server's sums, and by the header `thrifty-served` of answers that are no
// streams; the two have to agree, and with both the header `cache-status`. A stored answer serves streams and
// documents alike, so each check asks a question of its own, and `both` asks one in either form.

import assert from "node:assert/strict";

const url = (name) => {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value.replace(/\/$/, "");
};
export const URL = url("THRIFTY_URL");
export const DIRECT_URL = url("THRIFTY_DIRECT_URL");

// Asked of the server past the cache: nothing is looked up, stored or shared.
const PAST = { "thrifty-cache": "no-store" };

const UPSTREAM = ["upstream"];
const CACHE = ["memory", "disk", "flight"];

// Encrypted content is bound to the id of its item.
const IDENTITIES = /^(id|item_id|itemId|call_id|tool_call_id|toolCallId|response_id|responseId|obfuscation|encrypted_content|reasoningEncryptedContent)$/;
const TIMES = /^(created|created_at|completed_at|timestamp|stepTimeMs|responseTimeMs|.*(Duration|Ms|PerSecond))$/;

let last = {};

/** Remembers a reply's headers, and gives `thrifty-served` of them. */
export function seen(headers) {
  last = headers instanceof Headers ? Object.fromEntries(headers) : { ...headers };
  return last["thrifty-served"];
}

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

async function sums(url) {
  const page = await fetch(`${url}/thrifty/stats`);
  const { totals } = await page.json();
  return { calls: totals.calls, upstream: totals.sent, ...totals.hits };
}

/** Where the calls since `before` were served from. */
async function places(url, before) {
  // A call is settled when its body has ended, which the client may know a moment before the server does.
  for (let turn = 0; ; turn += 1) {
    const now = await sums(url);
    if (now.calls > before.calls || turn === 200) {
      return [...UPSTREAM, ...CACHE].filter((place) => now[place] > before[place]);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Runs checks with two clients, one for each of the two servers. `make` gets the URL and headers to send along. */
export class Checks {
  constructor(make) {
    this.direct = make(DIRECT_URL, PAST);
    this.through = make(URL, {});
  }

  stream(name, ask, look) {
    return this.call(name, ask, look, { told: false });
  }

  /**
   * `ask(client)` gives the header `thrifty-served` and the answer; `look(answer)` may throw when it holds the wrong
   * things. With `cached` false the answer must come from the upstream each time; with `told` false there may be no
   * header, as in streams.
   */
  async call(name, ask, look = () => {}, { cached = true, told = true } = {}) {
    const steps = [
      ["direct", DIRECT_URL, this.direct, UPSTREAM],
      ["uncached", URL, this.through, UPSTREAM],
      ["cached", URL, this.through, cached ? CACHE : UPSTREAM],
    ];
    let before;
    for (const [step, url, client, expected] of steps) {
      const answer = await this.one(name, step, url, client, expected, ask, told);
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
    const how = cached ? "cached, uncached and direct are equal" : "never cached, and equal to the direct one";
    console.log(`ok   ${name}: ${how}`);
  }

  /** One call; its answer, if it came from where it should and says so. */
  async one(name, step, url, client, expected, ask, told) {
    const earlier = await sums(url);
    let served, answer;
    try {
      [served, answer] = await ask(client);
    } catch (error) {
      fail(name, `the ${step} call failed: ${error?.stack ?? error}`);
    }
    const came = await places(url, earlier);
    if (came.length === 0 || !came.every((place) => expected.includes(place))) {
      fail(name, `the ${step} call was served from ${came.join() || "nowhere"}, not from ${expected.join(" or ")}`);
    }
    if ((told || (served ?? undefined) !== undefined) && !came.includes(served)) {
      fail(name, `the header of the ${step} call says ${served}, the sums say ${came}`);
    }
    const { "cache-status": status = "", age, "thrifty-origin-id": origin } = last;
    const isHit = /^thrifty; hit; ttl=\d+$/.test(status);
    if (isHit !== (expected === CACHE) || !status.startsWith("thrifty; ")) {
      fail(name, `the ${step} call's cache-status is ${status}`);
    }
    if ((isHit && !/^\d+$/.test(age)) || (origin !== undefined && !isHit)) {
      fail(name, `the ${step} call's age is ${age}, its origin id ${origin}`);
    }
    if (origin !== undefined && JSON.stringify(answer).includes(origin)) {
      fail(name, `the ${step} answer still has the id ${origin}`);
    }
    return answer;
  }

  /**
   * One question in both forms: what is stored as one form has to serve the other. `joined(answer)` makes of a stream
   * what does not depend on where it was cut.
   */
  async both(name, document, stream, joined = (answer) => answer) {
    const forms = { document: [document, (answer) => answer], stream: [stream, joined] };
    for (const [first, then] of [["document", "stream"], ["stream", "document"]]) {
      const text = `${name}: a ${first} first.`;
      const [ask, whole] = forms[then];
      const wanted = await this.one(name, "direct", DIRECT_URL, this.direct, UPSTREAM, (c) => ask(c, text), false);
      await this.one(name, `first ${first}`, URL, this.through, UPSTREAM, (c) => forms[first][0](c, text), false);
      const got = await this.one(name, `${then} after it`, URL, this.through, CACHE, (c) => ask(c, text), false);
      if (!last["thrifty-origin-id"]) fail(name, `the ${then} does not tell its origin id`);
      try {
        assert.deepStrictEqual(plain(whole(got), new Map()), plain(whole(wanted), new Map()));
      } catch (error) {
        fail(name, `the ${then} made of a ${first} differs: ${error.message.slice(0, 1500)}`);
      }
      console.log(`ok   ${name}: a stored ${first} serves a ${then}`);
    }
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
