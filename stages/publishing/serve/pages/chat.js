"use strict";
import { $, element, models, report, stream, words } from "/api.js";

let talks = []; // one a model: {model, messages, place}
let controller = null;

function begin() {
  const names = [$("left").value, $("right").value].filter((name, i, all) => name && all.indexOf(name) === i);
  $("talks").replaceChildren();
  talks = names.map((model) => {
    const place = element("section", "card");
    place.append(element("h2", "", model));
    $("talks").append(place);
    return { model, messages: [], place };
  });
}

function turn(talk, who, text) {
  const made = element("div", who === "you" ? "turn user" : "turn");
  made.append(element("span", "who", who), words(text));
  talk.place.append(made);
  return made.lastChild;
}

async function answer(talk, prompt, settings) {
  talk.messages.push({ role: "user", content: prompt });
  turn(talk, "you", prompt);
  const shown = turn(talk, talk.model, "");
  const note = element("p", "soft", "…");
  talk.place.append(note);
  const started = performance.now();
  let first = null, text = "", tokens = 0, finish = "stopped by you";
  try {
    const body = { model: talk.model, messages: talk.messages, stream: true, stream_options: { include_usage: true }, ...settings };
    for await (const chunk of stream("/v1/chat/completions", body, controller.signal)) {
      tokens = chunk.usage?.completion_tokens ?? tokens;
      const choice = chunk.choices[0];
      if (choice?.finish_reason) finish = choice.finish_reason === "stop" ? "ended by itself" : "cut at the limit";
      if (choice?.delta.content) {
        first ??= performance.now() - started;
        text += choice.delta.content;
        shown.textContent = text;
        shown.scrollTop = shown.scrollHeight;
      }
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      finish = "failed";
      report(error);
    }
  }
  const seconds = (performance.now() - started) / 1000;
  const speed = tokens ? ` · ${tokens} tokens, ${(tokens / seconds).toFixed(0)} a second` : "";
  note.textContent = `${finish}${speed}${first === null ? "" : ` · first after ${first.toFixed(0)} ms`}`;
  talk.messages.push({ role: "assistant", content: text });
}

async function send() {
  const prompt = $("prompt").value;
  if (!prompt.trim() || controller) return;
  report(null);
  const settings = {
    temperature: Number($("temperature").value), top_p: Number($("top_p").value),
    max_tokens: Number($("max_tokens").value), seed: Number($("seed").value),
    ...($("stop").value ? { stop: [$("stop").value] } : {}),
  };
  controller = new AbortController();
  $("prompt").value = "";
  $("send").disabled = true;
  $("halt").disabled = false;
  await Promise.all(talks.map((talk) => answer(talk, prompt, settings)));
  controller = null;
  $("send").disabled = false;
  $("halt").disabled = true;
  $("prompt").focus();
}

function restart() {
  controller?.abort();
  report(null);
  begin();
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); send(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});
$("halt").addEventListener("click", () => controller?.abort());
for (const id of ["left", "right"]) $(id).addEventListener("change", restart);
$("anew").addEventListener("click", restart);

models().then((names) => {
  for (const name of names) {
    $("left").append(new Option(name, name));
    $("right").append(new Option(name, name));
  }
  begin();
  if (!names.length) report(new Error("no models are served here"));
}).catch(report);
