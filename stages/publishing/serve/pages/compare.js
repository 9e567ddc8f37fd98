"use strict";
import { $, ask, element, report } from "/api.js";

const SVG = $("plot").firstChild.namespaceURI, SIDES = ["a", "b"];
let claims = [], found = null, asked = 0;

const field = (side, name) => $(side).querySelector(`[name=${name}]`);
const claimOf = (side) => claims.find((claim) => claim.name === field(side, "claim").value);

function fill(select, values, chosen, texts = values) {
  select.replaceChildren(...values.map((value, i) => new Option(texts[i], value)));
  if (values.includes(chosen)) select.value = chosen;
}

function choose(side, claim, arm, seed) {
  field(side, "claim").value = claim.name;
  fill(field(side, "arm"), claim.arms, arm);
  fill(field(side, "seed"), ["", ...claim.seeds], seed, ["all", ...claim.seeds]);
  $(side).querySelector("p").textContent = `${claim.claim} (${claim.verdict})`;
}

function named(side) {
  const seed = field(side, "seed").value;
  return `${field(side, "claim").value}:${field(side, "arm").value}${seed && `@${seed}`}`;
}

// As many decimals as tell the interval's half width, or the difference, by two digits.
function decimals(row) {
  const scale = row.low === null || row.high === null ? Math.abs(row.difference ?? row.a ?? row.b ?? 0) : (row.high - row.low) / 2;
  return scale > 0 ? Math.min(Math.max(1 - Math.floor(Math.log10(scale)), 0), 8) : 2;
}

const number = (value, places) => (value === null || value === undefined ? "" : value.toFixed(places).replace("-", "−"));
const signed = (value, places) => (value > 0 ? `+${number(value, places)}` : number(value, places));

function line(cells, numeric) {
  const made = element("tr");
  made.append(...cells.map((cell, i) => element("td", numeric.includes(i) ? "n" : "", cell)));
  return made;
}

function over(row) {
  const parts = [[row.seeds, "seeds"], [row.low === null ? 0 : row.items, `${row.item}s`], [row.clusters, "groups"]];
  return parts.filter(([count]) => count).map(([count, name]) => `${count} ${name}`).join(", ");
}

function showNumbers() {
  const differing = found.metrics.filter((row) => !row.same);
  $("numbers").tBodies[0].replaceChildren(...differing.map((row) => {
    const places = decimals(row), interval = row.low === null ? "" : `${signed(row.low, places)} to ${signed(row.high, places)}`;
    const made = line([row.name, number(row.a, places), number(row.b, places), signed(row.difference, places), interval, over(row)], [1, 2, 3, 4]);
    if (row.low !== null && (row.low > 0 || row.high < 0)) made.className = "clear";
    return made;
  }));
  const same = found.metrics.filter((row) => row.same).map((row) => row.name);
  $("same").textContent = `${differing.some((row) => row.low !== null) ? "Bold: the interval leaves 0 out. " : ""}`
    + `${same.length ? `The same on both sides: ${same.join(", ")}.` : ""}`;
}

function showParams() {
  $("params").tBodies[0].replaceChildren(...found.params.map(([name, a, b]) => line([name, a ?? "none", b ?? "none"], [])));
  $("params").hidden = !found.params.length;
  const { all, differing } = found.stages;
  $("stages").textContent = `${found.params.length ? "" : "The params are the same. "}`
    + `${all ? `${differing} of ${all} stages of a run differ in code, params, inputs or outputs.` : ""}`;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function ticks(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const from = Math.ceil(low / step - 1e-9), to = Math.floor(high / step + 1e-9), places = Math.max(0, -Math.floor(Math.log10(step)));
  return Array.from({ length: to - from + 1 }, (_, i) => [(from + i) * step, number((from + i) * step, places)]);
}

// A column a seed: A a filled circle, B a square, a line between those of one seed; dashed lines are means.
function draw() {
  const runs = found.runs[$("metric").value] ?? { a: {}, b: {} };
  const seeds = [...new Set([...Object.keys(runs.a), ...Object.keys(runs.b)])];
  const row = found.metrics.find((one) => one.name === $("metric").value);
  const all = SIDES.flatMap((side) => Object.values(runs[side]));
  const places = row ? decimals(row) : 3;
  $("seeds").tBodies[0].replaceChildren(...seeds.map((seed) => {
    const [a, b] = SIDES.map((side) => runs[side][seed]);
    const gap = a === undefined || b === undefined ? "" : signed(b - a, places);
    return line([seed, number(a, places), number(b, places), gap], [1, 2, 3]);
  }));
  if (!all.length) {
    $("plot").replaceChildren(element("p", "soft", "No run of either arm has this number."));
    $("legend").textContent = "";
    return;
  }
  const width = Math.min(Math.max($("plot").clientWidth, 280), 860), height = 300, left = 70, right = 16, top = 14, bottom = 44;
  const spread = Math.max(...all) - Math.min(...all) || Math.abs(all[0]) * 0.1 || 1;
  const low = Math.min(...all) - spread * 0.15, high = Math.max(...all) + spread * 0.15;
  const y = (value) => top + (high - value) / (high - low) * (height - top - bottom);
  const x = (i) => left + (i + 0.5) / seeds.length * (width - left - right);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-labelledby": "plot_title" });
  svg.append(shape("title", { id: "plot_title" }, `${$("metric").value} of each seed of A and B; the numbers are in the table below`));
  for (const [value, text] of ticks(low, high)) {
    svg.append(shape("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }));
    svg.append(shape("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  for (const side of SIDES) {
    const values = Object.values(runs[side]);
    if (!values.length) continue;
    const mean = values.reduce((sum, one) => sum + one, 0) / values.length;
    svg.append(shape("line", { class: `mean ${side}`, x1: left, x2: width - right, y1: y(mean), y2: y(mean) }));
  }
  const every = Math.ceil(seeds.length / Math.max(1, Math.floor((width - left - right) / 60)));
  seeds.forEach((seed, i) => {
    const [a, b] = SIDES.map((side) => runs[side][seed]);
    if (i % every === 0) svg.append(shape("text", { x: x(i), y: height - 24, "text-anchor": "middle" }, seed.length > 12 ? `${seed.slice(0, 11)}…` : seed));
    if (a !== undefined && b !== undefined) svg.append(shape("line", { class: "pair", x1: x(i), x2: x(i), y1: y(a), y2: y(b) }));
    if (a !== undefined) svg.append(shape("circle", { class: "a", cx: x(i), cy: y(a), r: 6 }));
    if (b !== undefined) svg.append(shape("rect", { class: "b", x: x(i) - 5, y: y(b) - 5, width: 10, height: 10 }));
  });
  svg.append(shape("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "seed"));
  $("plot").replaceChildren(svg);
  $("legend").textContent = `${$("metric").value}${row?.unit ? ` (${row.unit})` : ""}. Circles: A, ${found.a.name}. Squares: B, ${found.b.name}. Dashed: means over seeds.`;
}

function remember() {
  const state = new URLSearchParams({ a: named("a"), b: named("b"), ...($("metric").value ? { metric: $("metric").value } : {}) });
  history.replaceState(null, "", `?${state}`);
}

async function compare(metric) {
  const mine = ++asked;
  report(null);
  $("state").textContent = "comparing …";
  try {
    const told = await ask(`/api/experiments/compare?${new URLSearchParams({ a: named("a"), b: named("b") })}`);
    if (mine !== asked) return; // another choice has been made since
    found = told;
    const names = Object.keys(found.runs);
    fill($("metric"), names, metric ?? $("metric").value);
    $("compared").hidden = false;
    $("notes").replaceChildren(...found.notes.map((note) => element("li", "", note)));
    showNumbers();
    showParams();
    draw();
    remember();
  } catch (error) {
    if (mine !== asked) return;
    $("compared").hidden = true;
    report(error);
  }
  $("state").textContent = "";
}

for (const side of SIDES) {
  field(side, "claim").addEventListener("change", () => {
    const claim = claimOf(side);
    choose(side, claim, side === "a" ? claim.baseline : claim.arms.find((arm) => arm !== claim.baseline), "");
    compare();
  });
  for (const name of ["arm", "seed"]) field(side, name).addEventListener("change", () => compare());
}
$("metric").addEventListener("change", () => { draw(); remember(); });
window.addEventListener("resize", () => found && draw());

function given(side, name) {
  const [claim, arm, seed] = /^([^:]*):([^@]*)@?(.*)$/.exec(name ?? "")?.slice(1) ?? [];
  const known = claims.find((one) => one.name === claim) ?? claims[0];
  const other = known.arms.find((one) => one !== known.baseline);
  choose(side, known, known.arms.includes(arm) ? arm : side === "a" ? known.baseline : other, seed);
}

ask("/api/experiments").then((listed) => {
  claims = listed.claims;
  if (!claims.length) throw new Error("no claim has a page yet: `trainyard experiment run`, then `trainyard experiment report`");
  for (const side of SIDES) fill(field(side, "claim"), claims.map((claim) => claim.name));
  const state = new URLSearchParams(location.search);
  for (const side of SIDES) given(side, state.get(side));
  $("sides").hidden = false;
  return compare(state.get("metric"));
}).catch(report);
