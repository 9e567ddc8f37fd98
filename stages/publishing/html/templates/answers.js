"use strict";
// The judged answers that the form asks for; what it asks stands in the address behind the #, so that a link shows the
// same again. The data is in the page (stages/publishing/leaderboard/answers.py); texts become text, never markup.
{
  const data = JSON.parse(document.getElementById("data").textContent), form = document.querySelector(".ask-for");
  const fields = [...form.elements].filter((field) => field.name), PAGE = 20;
  const place = document.getElementById("found"), more = document.getElementById("more");
  const TONES = { g: "good", b: "bad", p: "plain" };
  const VERDICTS = { w: (model) => `${model} wins`, l: () => `${data.baseline} wins`, t: () => "tie", n: () => "no verdict" };
  const all = data.questions.flatMap((question) => question.judged.map((one) => ({ question, one })));
  const text = (question, at) => (at < 0 ? "" : question.texts[at]);
  let found = [], shown = 0;

  const element = (name, words = "", classes = "") => {
    const made = document.createElement(name);
    made.textContent = words;
    made.className = classes;
    return made;
  };
  const matches = ({ question, one: [model, said, verdict, differ, , , length, baseline] }, asked) =>
    (!asked.id || question.id === asked.id) &&
    (!asked.model || data.models[model] === asked.model) &&
    (!asked.verdict || verdict === asked.verdict) &&
    (!asked.length || asked.length === (length > baseline ? "longer" : length < baseline ? "shorter" : "same")) &&
    (!asked.differ || (asked.differ === "any" ? differ : differ.includes(asked.differ))) &&
    asked.words.every((word) => [question.prompt, text(question, said), text(question, question.baseline)].some((one) => one.toLowerCase().includes(word)));

  const answer = (name, words, mark, length) => {
    const made = element("div", "", "answer"), head = element("h4", name), body = element("p", words);
    if (mark) head.append(element("span", mark.slice(1), "tag " + TONES[mark[0]]));
    body.dir = "auto";
    made.append(head, body, element("p", `${length} characters`, "quiet small"));
    return made;
  };
  const vote = ([annotator, preference, first, second], model) => {
    if (preference === null) return "no verdict of " + (data.annotators[annotator] ?? "the judge");
    const orders = first !== undefined ? ` (${first} with ${data.baseline} shown first, ${second} with ${model} first)` : "";
    return `${data.annotators[annotator] ?? "the judge"} ${preference}${orders}`;
  };
  const article = ({ question, one: [at, said, verdict, differ, votes, mark, length, baseline] }) => {
    const made = element("article", "", "item"), model = data.models[at], head = element("h3", question.prompt), about = element("p", "", "truth");
    const same = said >= 0 && said === question.baseline, link = element("a", "link");
    link.href = "#" + new URLSearchParams({ model, id: question.id });
    link.setAttribute("aria-label", `Link to ${model}'s answer to this question`);
    head.dir = "auto";
    about.append(element("b", VERDICTS[verdict](model)), same ? ": the same answer" : `: ${votes.map((one) => vote(one, model)).join(", ")}`);
    if (differ.includes("a")) about.append(" · the annotators disagree");
    if (differ.includes("o")) about.append(" · the two orders disagree");
    if (differ.includes("t")) about.append(" · against the truth");
    about.append(" · ", link);
    made.append(head);
    if (question.truth) made.append(element("p", "A correct answer: " + question.truth, "truth"));
    const both = element("div", "", "answers");
    both.append(answer(model, text(question, said), mark, length), answer(data.baseline + ", the baseline", text(question, question.baseline), question.mark, baseline));
    made.append(about, both);
    return made;
  };
  const show = () => {
    place.append(...found.slice(shown, shown + PAGE).map(article));
    shown = Math.min(found.length, shown + PAGE);
    more.hidden = shown === found.length;
    document.getElementById("shown").textContent = `${found.length} of ${all.length} match, ${shown} shown. Preferences: 1 is the baseline's, 2 the model's.`;
  };
  const search = () => {
    const asked = Object.fromEntries(fields.map((field) => [field.name, field.value.trim()]));
    asked.words = asked.q.toLowerCase().split(/\s+/).filter(Boolean);
    fields.find((field) => field.name === "id").parentElement.hidden = !asked.id;
    found = all.filter((one) => matches(one, asked));
    shown = 0;
    place.replaceChildren();
    show();
  };
  const read = () => {
    if (location.hash.length > 1 && !location.hash.includes("=")) return; // a section of the page
    const asked = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) field.value = asked.get(field.name) ?? "";
    for (const field of fields) if (field.selectedIndex === -1) field.selectedIndex = 0; // what isn't there to choose
    search();
  };
  form.addEventListener("input", () => {
    history.replaceState(null, "", "#" + new URLSearchParams(fields.filter((one) => one.value.trim()).map((one) => [one.name, one.value.trim()])));
    search();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", show);
  addEventListener("hashchange", read);
  search();
  read();
}
