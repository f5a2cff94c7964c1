// The official Node client of OpenAI: chat completions, responses, embeddings.

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { Checks, need, seen } from "./common.mjs";

const MODEL = "gpt-5-mini";
const FUNCTION = {
  name: "find_city",
  description: "Finds a city.",
  parameters: {
    type: "object",
    properties: { name: { type: "string" }, count: { type: "integer" } },
    required: ["name", "count"],
    additionalProperties: false,
  },
};
const TOOLS = [{ type: "function", function: FUNCTION }];
const FLAT_TOOLS = [{ type: "function", strict: true, ...FUNCTION }];
const City = z.object({ name: z.string(), people: z.number().int(), isCapital: z.boolean() });

const checks = new Checks(
  (url, defaultHeaders) =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-openai-node", defaultHeaders, maxRetries: 0, timeout: 30_000 }),
);

const ask = (text) => ({
  model: MODEL,
  messages: [
    { role: "system", content: "You are brief." },
    { role: "user", content: text },
  ],
});

const all = async (stream) => {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
};

/** A call with raw access; a stream is read to its end. */
async function raw(promise) {
  const { data, response } = await promise.withResponse();
  return [seen(response.headers), Symbol.asyncIterator in data ? await all(data) : data];
}

function isCall({ name, arguments: text }) {
  need(name === "find_city", "the tool's name");
  const keys = Object.keys(JSON.parse(text)).sort();
  need(keys.join() === "count,name", "arguments that fit the schema");
}

const deltas = (chunks) => chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta));
const textOf = (chunks) => deltas(chunks).map((delta) => delta.content ?? "").join("");

await checks.call(
  "chat, plain",
  (c) => raw(c.chat.completions.create(ask("Node, plain."))),
  (a) => {
    need(a.choices[0].message.content.length > 40, "text");
    need(a.choices[0].finish_reason === "stop" && a.usage.total_tokens > 10, "an end and usage");
  },
);
const streamed = { stream: true, stream_options: { include_usage: true } };
await checks.stream(
  "chat, streamed",
  (c) => raw(c.chat.completions.create({ ...ask("Node, streamed."), ...streamed })),
  (a) => need(textOf(a).length > 40 && a.at(-1).usage.completion_tokens > 10, "text and usage"),
);
const tool = { ...ask("Node: use the tool."), tools: TOOLS };
await checks.call(
  "chat, tool call",
  (c) => raw(c.chat.completions.create(tool)),
  (a) => isCall(a.choices[0].message.tool_calls[0].function),
);
await checks.stream(
  "chat, tool call streamed",
  (c) => raw(c.chat.completions.create({ ...ask("Node: use the tool, streamed."), tools: TOOLS, ...streamed })),
  (a) => {
    const calls = deltas(a).flatMap((delta) => delta.tool_calls ?? []);
    const text = calls.map((call) => call.function.arguments ?? "").join("");
    isCall({ name: calls[0].function.name, arguments: text });
  },
);
await checks.call(
  "chat, structured output",
  (c) => raw(c.chat.completions.parse({ ...ask("Node: a city."), response_format: zodResponseFormat(City, "city") })),
  (a) => City.parse(a.choices[0].message.parsed),
);
await checks.stream(
  "chat, structured output put together from a stream",
  async (c) => {
    const request = { ...ask("Node: another city."), response_format: zodResponseFormat(City, "city") };
    let served;
    // The runner has no raw access: the transport tells what came.
    const seeing = async (...args) => {
      const response = await fetch(...args);
      served = seen(response.headers);
      return response;
    };
    const runner = c.withOptions({ fetch: seeing }).chat.completions.stream(request);
    const events = await all(runner);
    return [served, [events, await runner.finalChatCompletion()]];
  },
  (a) => City.parse(a[1].choices[0].message.parsed),
);

// Without a format the library asks for base64 and decodes it itself.
for (const [name, more] of [["base64", {}], ["numbers", { encoding_format: "float" }]]) {
  const request = { model: "text-embedding-3-small", input: ["Node, one.", "Node, two."], ...more };
  await checks.call(
    `embeddings as ${name}`,
    (c) => raw(c.embeddings.create(request)),
    (a) => {
      need(a.data.length === 2 && typeof a.data[0].embedding[0] === "number", "two vectors");
      need(String(a.data[0].embedding) !== String(a.data[1].embedding), "a difference between them");
    },
  );
}

await checks.error(
  "an unknown path",
  (c) => c.post("/no/such/path", { body: { model: MODEL } }),
  OpenAI.NotFoundError,
  "404",
  "/no/such/path",
);
await checks.error(
  "a body without messages",
  (c) => c.chat.completions.create({ model: MODEL, messages: [] }),
  OpenAI.BadRequestError,
  "400",
  "messages",
);
await checks.error(
  "a wish that is not known",
  (c) => c.chat.completions.create(ask("Node, wish."), { headers: { "thrifty-cache": "sometimes" } }),
  OpenAI.BadRequestError,
  "thrifty-cache",
  "no-store",
);

const input = (text, more = {}) => ({ model: MODEL, input: text, store: false, ...more });
await checks.call(
  "responses, plain",
  (c) => raw(c.responses.create(input("Node responses, plain."))),
  (a) => {
    need(a.status === "completed" && a.output_text.length > 40, "text and an end");
    need(a.usage.output_tokens > 10, "usage");
  },
);

function whole(events) {
  need(events[0].type === "response.created", "a start");
  need(events.at(-1).type === "response.completed", "an end");
  need(events.every((event, at) => event.sequence_number === at), "numbered events");
  return events.at(-1).response;
}
const pieces = (events, type) => events.filter((event) => event.type === type).map((event) => event.delta).join("");

await checks.stream(
  "responses, streamed",
  (c) => raw(c.responses.create(input("Node responses, streamed.", { stream: true }))),
  (a) => {
    const text = pieces(a, "response.output_text.delta");
    need(text.length > 40 && whole(a).output.at(-1).content[0].text === text, "one text in pieces and as a whole");
  },
);
const flat = { tools: FLAT_TOOLS };
await checks.call(
  "responses, tool call",
  (c) => raw(c.responses.create(input("Node responses: use the tool.", flat))),
  (a) => isCall(a.output.at(-1)),
);
await checks.stream(
  "responses, tool call streamed",
  (c) => raw(c.responses.create(input("Node responses: use the tool, streamed.", { ...flat, stream: true }))),
  (a) => {
    const item = whole(a).output.at(-1);
    isCall(item);
    need(pieces(a, "response.function_call_arguments.delta") === item.arguments, "one text in pieces and as a whole");
  },
);
await checks.call(
  "responses, structured output",
  (c) => raw(c.responses.parse(input("Node responses: a city.", { text: { format: zodTextFormat(City, "city") } }))),
  (a) => City.parse(a.output_parsed),
);

const end = (chunks) => {
  const choices = chunks.flatMap((chunk) => chunk.choices);
  const calls = choices.flatMap((choice) => choice.delta.tool_calls ?? []);
  need(new Set(chunks.map((chunk) => chunk.id)).size === 1, "one id in all chunks");
  return {
    text: textOf(chunks),
    call: calls.map((call) => call.function.arguments ?? "").join(""),
    name: calls[0]?.function.name,
    finish: choices.map((choice) => choice.finish_reason).filter(Boolean),
    usage: chunks.at(-1).usage,
    model: chunks[0].model,
  };
};
for (const [name, tools, flatTools] of [["text"], ["tool call", TOOLS, FLAT_TOOLS]]) {
  const question = (text) => ({ ...ask(`Node: use the tool, ${text}`), tools });
  await checks.both(
    `chat in both forms, ${name}`,
    (c, text) => raw(c.chat.completions.create(question(text))),
    (c, text) => raw(c.chat.completions.create({ ...question(text), ...streamed })),
    end,
  );
  const asked = (text) => input(`Node: use the tool, ${text}`, { tools: flatTools });
  await checks.both(
    `responses in both forms, ${name}`,
    (c, text) => raw(c.responses.create(asked(text))),
    (c, text) => raw(c.responses.create({ ...asked(text), stream: true })),
    whole,
  );
}
