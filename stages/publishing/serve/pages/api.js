// What all pages share: asking the server, and showing texts of strangers, which only ever become text.
"use strict";

export const $ = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function words(text) {
  const made = element("div", "words", text);
  made.dir = "auto";
  made.tabIndex = 0;
  return made;
}

async function failure(reply) {
  const said = await reply.json().catch(() => null);
  const error = new Error(said?.error?.message ?? `the server answered ${reply.status}`);
  error.code = said?.error?.code;
  return error;
}

export async function ask(path, body, options = {}) {
  const { headers = {}, signal } = options;
  const sent = body === undefined
    ? { headers, signal }
    : { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify(body), signal };
  const reply = await fetch(path, sent);
  if (!reply.ok) throw await failure(reply);
  return reply.json();
}

// The values of a stream of server-sent events, until [DONE].
export async function* stream(path, body, signal) {
  const reply = await fetch(path, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal,
  });
  if (!reply.ok) throw await failure(reply);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const parsed = JSON.parse(data);
      if (parsed.error) throw new Error(parsed.error.message);
      yield parsed;
    }
  }
}

export function report(error) {
  $("problem").textContent = error ? error.message : "";
}

export async function models() {
  return (await ask("/v1/models")).data.map((model) => model.id);
}
