"use strict";
import { $, ask, report } from "/api.js";

const KEPT = "trainyard annotator";
let task = null, item = null, shownAt = 0, busy = false, agreed = false;

const headers = () => ({ "x-annotator": localStorage.getItem(KEPT) ?? "" });

function show(state) {
  item = state.item;
  shownAt = performance.now();
  $("progress").textContent = `${state.done} of ${state.total} labelled`;
  if (task === "pairs" && (!agreed || state.done % 10 === 0)) agreement();
  $("whose").textContent = ` · ${state.name}, whose code is ${localStorage.getItem(KEPT)}`;
  $("asked").hidden = !item;
  $("over").hidden = !!item;
  $("pair").hidden = !item || task !== "pairs";
  $("answer").hidden = !item || task !== "answers";
  $("editor").hidden = true;
  $("reason").value = "";
  if (!item) return;
  $("prompt").textContent = item.prompt ?? item.instruction;
  if (task === "pairs") {
    $("first").textContent = item.first;
    $("second").textContent = item.second;
  } else {
    $("response").textContent = item.response;
  }
  for (const words of document.querySelectorAll(".words")) words.scrollTop = 0;
}

async function agreement() {
  agreed = true;
  const { compared, percent, alpha, low, high } = await ask("/api/annotate/agreement");
  const interval = low === null ? "" : ` (${low.toFixed(2)} to ${high.toFixed(2)})`;
  $("agreement").textContent = !compared ? "" : ` · annotators agree in ${percent.toFixed(0)} %`
    + `${alpha === null ? "" : `, Krippendorff’s α ${alpha.toFixed(2)}${interval}`}, on ${compared} pairs that several labelled`;
}

// One thing at a time: a key that is held down or hit twice labels one item.
async function act(path, body) {
  if (busy) return;
  busy = true;
  report(null);
  try {
    show(await ask(`/api/annotate/${task}/${path}`, body, { headers: headers() }));
  } catch (error) {
    report(error);
    if (error.code === "voted") await ask(`/api/annotate/${task}/next`, undefined, { headers: headers() }).then(show);
    if (error.code === "unknown") welcome();
  }
  busy = false;
}

function edit() {
  $("edited_instruction").value = item.instruction;
  $("edited_response").value = item.response;
  $("editor").hidden = false;
  $("edited_response").focus();
}

function save() {
  const instruction = $("edited_instruction").value, response = $("edited_response").value;
  const changed = {
    ...(instruction !== item.instruction ? { instruction } : {}), ...(response !== item.response ? { response } : {}),
  };
  document.activeElement.blur();
  if (!Object.keys(changed).length) $("editor").hidden = true;
  else act("label", { id: item.id, verdict: "edit", ...changed, reason: $("reason").value });
}

function key(pressed) {
  if (pressed === "u") return act("undo", {});
  if (!item) return undefined;
  if (task === "pairs") {
    const vote = { 1: "first", 2: "second", 0: "tie", s: "skip" }[pressed];
    return vote && act("label", { id: item.id, vote, seconds: (performance.now() - shownAt) / 1000 });
  }
  const verdict = { k: "keep", d: "drop" }[pressed];
  if (verdict) return act("label", { id: item.id, verdict, reason: $("reason").value });
  if (pressed === "e") edit();
  return undefined;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("editor").hidden) return save();
  if (event.key === "Escape") {
    $("editor").hidden = true;
    return document.activeElement.blur();
  }
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return undefined;
  if ($("work").hidden || !/^[012sukde]$/.test(event.key)) return undefined;
  event.preventDefault(); // the letter of `e` must not land in the field that it opens
  return key(event.key);
});
for (const button of document.querySelectorAll("[data-key]")) button.addEventListener("click", () => key(button.dataset.key));

function welcome() {
  $("work").hidden = true;
  $("enroll").hidden = false;
  $("name").focus();
}

function work() {
  $("enroll").hidden = true;
  $("work").hidden = false;
  document.activeElement.blur();
  return act("next");
}

$("enroll").addEventListener("submit", async (event) => {
  event.preventDefault();
  report(null);
  try {
    const given = $("code").value.trim();
    localStorage.setItem(KEPT, given || (await ask("/api/annotate/enroll", { name: $("name").value })).code);
    await work();
  } catch (error) {
    report(error);
  }
});
$("task").addEventListener("change", () => { task = $("task").value; $("task").blur(); act("next"); });

ask("/api/annotate/setup").then(({ tasks, guideline }) => {
  if (!tasks.length) throw new Error("there is nothing to label: start the server with --pairs FILE or --answers FILE");
  task = $("task").value = tasks[0];
  $("tasks").hidden = tasks.length < 2;
  $("guide").hidden = !guideline;
  $("guideline").textContent = guideline;
  return localStorage.getItem(KEPT) ? work() : welcome();
}).catch(report);
