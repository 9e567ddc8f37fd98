"use strict";
import { $, ask, element, report } from "/api.js";

const ELO = 400 / Math.LN10;
let battle = null, shownAt = 0, asking = false;

const elo = (value) => (1000 + ELO * value).toFixed(0);

async function ratings() {
  const { battles, ratings } = await ask("/api/arena/ratings");
  $("count").textContent = battles ? `${battles} ${battles === 1 ? "vote" : "votes"}.` : "No votes yet.";
  $("table").hidden = !battles;
  const parted = new Set(ratings.map((one) => one.group)).size > 1;
  if (parted) $("count").textContent += " Groups of models that never met are listed apart; their ratings can't be compared.";
  $("table").tBodies[0].replaceChildren(...ratings.map((one) => {
    const line = element("tr");
    line.append(
      element("td", "", parted ? `${one.model} (group ${one.group + 1})` : one.model),
      element("td", "n", elo(one.rating)),
      element("td", "n", `${elo(one.low)} to ${elo(one.high)}`),
      element("td", "n", String(one.battles)),
    );
    return line;
  }));
}

async function begin() {
  const prompt = $("prompt").value;
  if (!prompt.trim() || asking) return;
  asking = true;
  report(null);
  $("send").disabled = true;
  $("battle").hidden = true;
  $("state").textContent = "both are writing …";
  try {
    const found = await ask("/api/arena/battle", { prompt });
    for (const side of ["first", "second"]) {
      $(side).classList.remove("chosen");
      $(side).querySelector("h2").textContent = side === "first" ? "Answer 1" : "Answer 2";
      $(side).querySelector(".words").textContent = found[side];
      $(side).querySelector("p").textContent = "";
    }
    battle = found.battle;
    shownAt = performance.now();
    $("battle").hidden = $("votes").hidden = false;
    $("prompt").blur();
  } catch (error) {
    report(error);
  }
  $("state").textContent = "";
  $("send").disabled = asking = false;
}

async function vote(choice) {
  if (!battle) return;
  const id = battle;
  battle = null; // one vote, however fast the keys are
  try {
    const told = await ask("/api/arena/vote", { battle: id, vote: choice, seconds: (performance.now() - shownAt) / 1000 });
    for (const side of ["first", "second"]) {
      $(side).querySelector("h2").textContent = told[side].model;
      $(side).querySelector("p").textContent = `${told[side].tokens} tokens, ${told[side].characters} characters`;
      $(side).classList.toggle("chosen", side === choice);
    }
    $("votes").hidden = true;
    await ratings();
    $("prompt").select();
  } catch (error) {
    report(error);
  }
}

$("form").addEventListener("submit", (event) => { event.preventDefault(); begin(); });
$("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); begin(); }
});
for (const button of $("votes").children) button.addEventListener("click", () => vote(button.dataset.vote));
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, textarea, select");
  const choice = { 1: "first", 2: "second", 0: "tie", b: "bad" }[event.key];
  if (choice && !typing && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey) vote(choice);
});
ratings().catch(report);
