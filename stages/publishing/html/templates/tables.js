"use strict";
// Tables sort by a column's heading and show the rows that hold some words. What was chosen stands in the address behind
// the #, as `sort.<table>=<column><a or d>` and `find.<table>=<words>`, so that a link shows the same again.
{
  const FEW = 4, MANY = 8, UNITS = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  const chosen = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const keep = (name, value) => {
    const all = chosen();
    if (value) all.set(name, value); else all.delete(name);
    history.replaceState(null, "", "#" + all);
  };
  // The number that a cell begins with, as the pages write them (−1 234.5, 3.1G, ≈ 4e-05, $2); NaN for words.
  const number = (cell) => {
    const text = (cell.firstChild?.textContent ?? "").replace(/[\s\u202f\u00a0]/g, "").replace(/−/g, "-");
    const found = /^[≈≤≥×$]?([-+]?[\d.]+(?:e[-+]?\d+)?)([kMGT]?)(?![a-z\d])/i.exec(text);
    return found ? Number(found[1]) * (UNITS[found[2]] ?? 1) : NaN;
  };
  const prepare = (table, key) => {
    const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
    const name = table.closest("[aria-label]")?.getAttribute("aria-label") || "this table";
    const made = heads.findIndex((head) => head.matches(".sorted"));
    const order = (column, down) => {
      const filled = rows.filter((row) => !["", "–"].includes(row.cells[column].textContent.trim()));
      if (!filled.some((row) => Number.isNaN(number(row.cells[column])))) return (a, b) => {
        const [x, y] = [number(a.cells[column]), number(b.cells[column])];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // unknown: last either way
        return down ? y - x : x - y;
      };
      return (a, b) => a.cells[column].textContent.localeCompare(b.cells[column].textContent) * (down ? -1 : 1);
    };
    const sort = (column, down) => {
      body.append(...(column < 0 ? rows : [...rows].sort(order(column, down))));
      heads.forEach((head, at) => {
        if (at === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
        const key = at === (column < 0 ? made : column); // stays in sight on a phone
        for (const row of [table.tHead.rows[0], ...rows]) row.cells[at].classList.toggle("sorted", key);
      });
    };
    heads.forEach((head, column) => {
      if (!head.textContent.trim() || head.matches(".scale, .spread")) return;
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      button.type = "button";
      button.addEventListener("click", () => { // numbers from the largest, words from A; then the other way; then as it was
        const first = head.matches(".n") ? "d" : "a", other = first === "d" ? "a" : "d";
        const now = { [first]: other, [other]: "" }[head.getAttribute("aria-sort")?.[0]] ?? first;
        sort(now ? column : -1, now === "d");
        keep("sort." + key, now && column + now);
      });
    });
    const asked = /^(\d+)([ad])$/.exec(chosen().get("sort." + key) ?? "");
    if (asked && heads[asked[1]]) sort(Number(asked[1]), asked[2] === "d");
    if (rows.length < MANY) return;
    const field = document.createElement("input"), told = document.createElement("span"), line = document.createElement("p");
    Object.assign(field, { type: "search", placeholder: "filter rows", value: chosen().get("find." + key) ?? "" });
    field.setAttribute("aria-label", "Filter the rows of " + name);
    told.setAttribute("role", "status");
    line.className = "find";
    line.append(field, told);
    table.closest(".scroll").before(line);
    const find = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      told.textContent = words.length ? ` ${rows.filter((row) => !row.hidden).length} of ${rows.length}` : "";
    };
    field.addEventListener("input", () => { find(); keep("find." + key, field.value.trim()); });
    find();
  };
  const seen = {};
  for (const table of document.querySelectorAll(".scroll > table")) {
    const section = table.closest("section")?.id || "page", key = section + (seen[section] = (seen[section] ?? 0) + 1);
    const simple = table.tHead && table.tBodies.length === 1 && !table.querySelector("[colspan], [rowspan]");
    if (simple && table.tBodies[0].rows.length >= FEW) prepare(table, key);
  }
  const first = [...chosen().keys()].map((name) => /^(?:sort|find)\.(.*?)\d+$/.exec(name)?.[1]).find(Boolean);
  if (first) document.getElementById(first)?.scrollIntoView();
}
