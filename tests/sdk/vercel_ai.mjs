// Vercel's AI SDK with its OpenAI provider: chat completions, responses, embeddings.

import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, Output, embedMany, generateText, jsonSchema, streamText, tool } from "ai";
import { z } from "zod";
import { Checks, need, seen } from "./common.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const MODEL = "gpt-5-mini";
const City = z.object({ name: z.string(), people: z.number().int() });
// Not run by the SDK: the check ends with the call itself.
const tools = {
  find_city: tool({
    description: "Finds a city.",
    inputSchema: jsonSchema({
      type: "object",
      properties: { name: { type: "string" }, count: { type: "integer" } },
      required: ["name", "count"],
      additionalProperties: false,
    }),
  }),
};

const open = (url, more = {}) => createOpenAI({ baseURL: `${url}/v1`, apiKey: "sk-vercel-ai", ...more });
const checks = new Checks((url, headers) => Object.assign(open(url, { headers }), { url }));

const settings = (text, more = {}) => ({ instructions: "You are brief.", prompt: text, maxRetries: 0, ...more });
const served = (response) => seen(response.headers);

/** A whole answer: what the SDK makes of it, without what it makes up by itself. */
async function whole(model, text, more) {
  const result = await generateText({ model, ...settings(text, more) });
  const { content, finishReason, usage, toolCalls, providerMetadata } = result;
  const object = more?.output ? result.output : undefined;
  return [served(result.response), { text: result.text, content, finishReason, usage, toolCalls, providerMetadata, object }];
}

/** A streamed one: every part, and what comes out at the end. */
async function streamed(model, text, more) {
  let trouble;
  const onError = ({ error }) => {
    trouble = error;
  };
  const result = streamText({ model, onError, ...settings(text, more) });
  const parts = [];
  for await (const part of result.stream) parts.push(withoutHead(part));
  if (trouble) throw trouble;
  const object = more?.output ? await result.output : undefined;
  const end = {
    text: await result.text,
    toolCalls: await result.toolCalls,
    finishReason: await result.finishReason,
    usage: await result.usage,
    object,
  };
  return [served(await result.response), { parts, ...end }];
}

/** Without the request and the headers of the response, which differ where they should. */
function withoutHead({ request, response, performance, ...part }) {
  return response ? { ...part, response: { modelId: response.modelId } } : part;
}

function isText(a) {
  need(a.text.length > 40 && a.finishReason === "stop", "text and an end");
  need(a.usage.inputTokens > 5 && a.usage.outputTokens > 10, "usage");
}

function isCall(a) {
  need(a.toolCalls.length === 1 && a.finishReason === "tool-calls", "one tool call");
  const [call] = a.toolCalls;
  need(call.toolName === "find_city" && !call.invalid, "a valid call");
  need(Object.keys(call.input).sort().join() === "count,name", "arguments that fit the schema");
}

function inPieces(a) {
  const deltas = a.parts.filter((part) => part.type === "text-delta");
  need(deltas.length > 2 && deltas.map((part) => part.text).join("") === a.text, "one text in pieces and as a whole");
}

for (const [kind, of] of [
  ["chat", (p) => p.chat(MODEL)],
  ["responses", (p) => p.responses(MODEL)],
]) {
  // The Responses API keeps an answer unless told not to, and such a call is not cached.
  const more = kind === "responses" ? { providerOptions: { openai: { store: false } } } : {};
  const city = { ...more, output: Output.object({ schema: City }) };
  await checks.call(`${kind}, plain`, (p) => whole(of(p), `Vercel ${kind}, plain.`, more), isText);
  await checks.stream(
    `${kind}, streamed`,
    (p) => streamed(of(p), `Vercel ${kind}, streamed.`, more),
    (a) => (isText(a), inPieces(a)),
  );
  await checks.call(
    `${kind}, tool call`,
    (p) => whole(of(p), `Vercel ${kind}: use the tool.`, { ...more, tools }),
    isCall,
  );
  await checks.stream(
    `${kind}, tool call streamed`,
    (p) => streamed(of(p), `Vercel ${kind}: use the tool, streamed.`, { ...more, tools }),
    (a) => {
      isCall(a);
      const deltas = a.parts.filter((part) => part.type === "tool-input-delta").map((part) => part.delta);
      need(JSON.stringify(JSON.parse(deltas.join(""))) === JSON.stringify(a.toolCalls[0].input), "one input");
    },
  );
  await checks.call(
    `${kind}, structured output`,
    (p) => whole(of(p), `Vercel ${kind}: a city.`, city),
    (a) => City.parse(a.object),
  );
  await checks.stream(
    `${kind}, structured output streamed`,
    (p) => streamed(of(p), `Vercel ${kind}: another city.`, city),
    (a) => City.parse(a.object),
  );
  for (const [name, extra] of [["text", {}], ["tool call", { tools }]]) {
    await checks.both(
      `${kind} in both forms, ${name}`,
      (p, text) => whole(of(p), `Vercel: use the tool, ${text}`, { ...more, ...extra }),
      (p, text) => streamed(of(p), `Vercel: use the tool, ${text}`, { ...more, ...extra }),
      ({ parts, ...end }) => end,
    );
  }
  await checks.error(
    `${kind}, a wish that is not known`,
    (p) => whole(of(p), "Vercel, wish.", { ...more, headers: { "thrifty-cache": "sometimes" } }),
    APICallError,
    "400",
    "thrifty-cache",
    "no-store",
  );
  await checks.error(
    `${kind}, a wish that is not known, streamed`,
    (p) => streamed(of(p), "Vercel, wish.", { ...more, headers: { "thrifty-cache": "sometimes" } }),
    APICallError,
    "400",
    "thrifty-cache",
  );
}

await checks.error(
  "an unknown path",
  (p) => {
    const nowhere = (input, init) => fetch(String(input).replace("/chat/completions", "/no/such/path"), init);
    return whole(open(p.url, { fetch: nowhere }).chat(MODEL), "Vercel, lost.");
  },
  APICallError,
  "404",
  "/v1/no/such/path",
);

await checks.call(
  "embeddings",
  async (p) => {
    const model = p.embedding("text-embedding-3-small");
    const result = await embedMany({ model, values: ["Vercel, one.", "Vercel, two."], maxRetries: 0 });
    const { embeddings, usage } = result;
    return [served(result.responses[0]), { embeddings, usage }];
  },
  (a) => {
    need(a.embeddings.length === 2 && String(a.embeddings[0]) !== String(a.embeddings[1]), "two vectors");
    need(a.usage.tokens > 2, "usage");
  },
);
