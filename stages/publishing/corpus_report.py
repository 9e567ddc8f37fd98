"""publishing.corpus_report: what each step of the corpus kept, dropped and why, on one page.

Reads the steps in the order of the pipeline, an explicit list. Words of the crawl (addresses, texts, licences) are
hostile: bounded in length, stripped of what reorders a line, escaped by the template, and never a link.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from stages.base import schemas
from stages.base.artifacts import PACK, PAGES, PLANTED
from stages.base.contracts.pack import Pack
from stages.base.errors import InputError
from stages.base.params import Section
from stages.base.record import StageRun, stage
from stages.publishing.corpus import histograms
from stages.publishing.corpus.checks import (
    Measured,
    classifier_rows,
    legality_view,
    measured,
    personal_view,
    planted_view,
    problems_view,
    worst,
)
from stages.publishing.corpus.domains import domains_view, mixture_view, sizes
from stages.publishing.corpus.planted import Caught, caught, caught_view, follow, innocent_line
from stages.publishing.corpus.samples import COLUMNS, Sampler, find_urls, samples_view, twins
from stages.publishing.corpus.steps import (
    CORPUS,
    FIRST_TEXT,
    STEPS,
    Step,
    check_chain,
    colours_of,
    documents_fall,
    label,
    make_step,
    need,
    reasons_view,
    steps_table,
    tally,
    tokens,
    tokens_fall,
)
from stages.publishing.html.numbers import count, number, percent
from stages.publishing.html.site import SiteParams, Summary, figures, publish_page

SCORED = ("screen", "heuristics", "quality")  # steps that write histograms.json
TOKENIZER = "data/tokens/tokenizer/metrics.json"


class CorpusReportParams(Section):
    samples_per_reason: Annotated[int, Field(ge=1, le=50)]
    """Drops shown for every reason, those of smallest hash."""


PARAMS: dict[str, Any] = {"publishing.corpus_report": CorpusReportParams, "publishing.site": SiteParams}
Run = StageRun[CorpusReportParams]


def read_steps(run: Run) -> tuple[list[Step], dict[str, Sampler]]:
    """Every step that the pipeline has, with its drops counted, and the samples of its drops; one pass over each table
    of drops."""
    steps, samplers = [], {}
    for name in STEPS:
        if not Path(f"{CORPUS}/{name}").is_dir():
            continue
        sampler = samplers[name] = Sampler(run.params.samples_per_reason)
        counted = tally(
            sampler.watch(run.batches(f"{CORPUS}/{name}/drops.parquet", schemas.DROP, COLUMNS)),
        )
        has_text = STEPS.index(name) >= STEPS.index(FIRST_TEXT)
        metrics = run.read_json(f"{CORPUS}/{name}/metrics.json") if has_text else {}
        steps.append(make_step(name, run.read_json(f"{CORPUS}/{name}/record.json"), metrics, counted))
    if not steps:
        raise InputError(f"{CORPUS}: no step of the corpus is there; take the page out of `publishing.site.pages`")
    check_chain(steps)
    return steps, samplers


@dataclass(frozen=True)
class Packed:
    """Bytes per token, of the packed text where it is packed, else as the tokenizer was measured; tokens of the packed
    text, each document once, where they were counted."""

    ratio: float
    counted: int | None

    @property
    def source(self) -> str:
        return "of the packed text" if self.counted is not None else "that the tokenizer was measured at"

    def left(self, size: float) -> str:
        return tokens(size, self.ratio) if self.counted is None else count(self.counted)


def packed_of(run: Run, pack: Pack | None) -> Packed:
    """Raises InputError where neither says how long a token is."""
    if pack and pack.train.sources:
        sources, held = pack.train.sources.values(), pack.validation
        counted = sum(source.unique_tokens for source in sources) + held.tokens
        if counted > 0:
            return Packed((sum(source.unique_bytes for source in sources) + held.bytes) / counted, counted)
    ratio = number(need(run.read_json(TOKENIZER), "bytes_per_token", TOKENIZER))
    if ratio is None or ratio <= 0:
        raise InputError(f"{TOKENIZER}: bytes_per_token is no positive number; rerun tokens.tokenizer (`dvc repro`)")
    return Packed(ratio, None)


def twin_urls(run: Run, samplers: dict[str, Sampler]) -> dict[str, str]:
    """Addresses of the documents that sampled drops duplicate; all of them were extracted."""
    wanted = twins(sampler.samples() for sampler in samplers.values())
    path = f"{CORPUS}/{FIRST_TEXT}/documents.parquet"
    return find_urls(run.batches(path, schemas.DOCUMENT, ["id", "url"]), wanted)


def scores_section(run: Run, steps: dict[str, Step], colours: dict[str, str], parsed: dict[str, list]) -> dict | None:
    """None where no step that scores is there."""
    if not parsed:
        return None
    path = f"{CORPUS}/quality/histograms.json"
    value = run.read_json(path) if "quality" in steps else {}
    return {
        "groups": [
            {"name": name, "charts": [histograms.chart(one, colours) for one in found]}
            for name, found in parsed.items()
            if found
        ],
        "calibration": histograms.calibration_view(value.get(histograms.CALIBRATION), path, colours),
        "classifiers": classifier_rows(steps["quality"].metrics if "quality" in steps else {}),
    }


def domains_section(run: Run, steps: dict[str, Step]) -> dict[str, Any] | None:
    """None where the pipeline names no domains."""
    if not {"domains", "mix"} <= steps.keys():
        return None
    before, after = (f"{CORPUS}/{name}/histograms.json" for name in ("domains", "mix"))
    return domains_view(
        sizes(run.read_json(before), before, "documents", "bytes"),
        sizes(run.read_json(after), after, "documents", "bytes_read"),
        steps["domains"].metrics,
        steps["mix"].metrics,
    )


def planted_section(run: Run, steps: list[Step]) -> tuple[list[Caught], str]:
    """What became of planted defects by the end of the corpus, and of pages without any; nothing where none are."""
    texts = [step.name for step in steps if step.bytes_out is not None and step.name != "mix"]
    if not texts or not Path(PLANTED).is_file():
        return [], ""
    planted = run.read_table(PLANTED, schemas.PLANTED)
    if not planted.num_rows:
        return [], ""
    documents = run.batches(f"{CORPUS}/{texts[-1]}/documents.parquet", schemas.DOCUMENT, ["url", "source", "text"])
    outcome = follow(planted, run.batches(PAGES, schemas.PAGE, ["url", "source"]), documents)
    return caught(planted, outcome), innocent_line(planted, outcome)


def build(run: Run) -> tuple[dict[str, Any], Summary]:
    """Everything on the page, and what it says of itself. A section is None or empty where its step isn't there."""
    steps, samplers = read_steps(run)
    by_name = {step.name: step for step in steps}
    pack = run.read_contract(PACK, Pack) if Path(PACK).is_file() else None
    packed = packed_of(run, pack) if pack or Path(TOKENIZER).is_file() else None
    parsed = {}
    for name in SCORED:
        if name in by_name:
            path = f"{CORPUS}/{name}/histograms.json"
            parsed[name] = histograms.parse(run.read_json(path), path)
    colours = colours_of(steps, [source for found in parsed.values() for one in found for source in one.counts])
    legality = f"{CORPUS}/screen/legality.json"
    truth = measured(steps)
    samples = {name: sampler.samples() for name, sampler in samplers.items()}
    first, last = steps[0], steps[-1]
    dealt, innocent = planted_section(run, steps)
    screened = by_name.get("screen")
    view = {
        "headline": {
            "claim": f"Of {count(first.rows_in)} pages, {count(last.rows_out)} are left to train on.",
            "lead": f"What each of {len(steps)} steps dropped, and why. Left are {count(last.bytes_out or 0)} bytes of "
            f"text" + (f", {packed.left(last.bytes_out or 0)} tokens." if packed else "."),
        },
        "tiles": tiles(steps, truth, packed, dealt),
        "sources": [{"label": label(name), "colour": colour} for name, colour in colours.items()],
        "fall": {
            "documents": documents_fall(steps),
            "tokens": tokens_fall(steps, packed.ratio) if packed else None,
            "table": steps_table(steps, packed.ratio if packed else None),
            "ratio": f"{packed.ratio:.3f} bytes per token {packed.source}" if packed else "",
        },
        "reasons": reasons_view(steps, colours),
        "drops": {
            "groups": samples_view(steps, samples, twin_urls(run, samplers)) if FIRST_TEXT in by_name else [],
            "size": run.params.samples_per_reason,
        },
        "scores": scores_section(run, by_name, colours, parsed),
        "domains": domains_section(run, by_name),
        "legality": legality_view(run.read_json(legality), legality) if screened else None,
        "personal": personal_view(screened.metrics) if screened else None,
        "mixture": mixture_view(pack) if pack else None,
        "tokenizer": Path(TOKENIZER).is_file(),
        "dealt": caught_view(dealt),
        "innocent": innocent,
        "planted": planted_view(truth),
        "problems": problems_view(by_name.get("ingest"), by_name.get("extract")),
    }
    return view, summary([step for step in steps if step.name != "mix"][-1], steps, dealt)


def summary(cleaned: Step, steps: list[Step], dealt: list[Caught]) -> Summary:
    """Parameters: `cleaned`: the last step before the mixture."""
    pages, total = steps[0].rows_in, sum(row.planted for row in dealt)
    recall = percent(sum(row.caught for row in dealt), total)
    told = f"; {recall} of {count(total)} planted defects were dealt with" if dealt else ""
    return Summary(
        line=f"{count(cleaned.rows_out)} of {count(pages)} pages are left{told}.",
        stations=figures((count(pages), "pages collected"), (count(cleaned.rows_out), "documents kept")),
        tiles=figures((recall, f"of {count(total)} planted defects dealt with")) if dealt else [],
    )


def tiles(steps: list[Step], truth: list[Measured], packed: Packed | None, dealt: list[Caught]) -> list[dict[str, str]]:
    first, last = steps[0], steps[-1]
    reasons, lowest = sum(len(step.dropped) for step in steps), worst(truth)
    total = sum(row.planted for row in dealt)
    told = f"; in the end {percent(sum(row.caught for row in dealt), total)} of all are dealt with" if dealt else ""
    by_step = f"lowest recall of one step alone: {lowest.what}, {lowest.step}{told}" if lowest else ""
    size = last.bytes_out or 0
    return [
        {"value": percent(last.rows_out, first.rows_in), "label": f"of {count(first.rows_in)} pages are left"},
        *([{"value": packed.left(size), "label": "tokens of text, each document once"}] if packed else []),
        {
            "value": count(sum(step.lost for step in steps)),
            "label": f"pages dropped, for {count(reasons)} different reasons",
        },
        {
            "value": percent(lowest.share or 0.0, 1) if lowest else "–",
            "label": by_step or "nothing was planted",
        },
    ]


SECTIONS = [
    ("steps", "Steps"),
    ("reasons", "Reasons"),
    ("samples", "Samples"),
    ("scores", "Scores"),
    ("domains", "Mixture"),
    ("legality", "Legality"),
    ("personal", "Personal data"),
    ("planted", "Planted truth"),
    ("problems", "Bad input"),
]


def main() -> None:
    with stage("publishing.corpus_report", CorpusReportParams) as run:
        view, told = build(run)
        there = {**view, "steps": True, "samples": True, "planted": True, "domains": view["domains"] or view["mixture"]}
        sections = [(id, name) for id, name in SECTIONS if there[id] is not None]
        publish_page(run, "corpus", view, sections, run.section("publishing.site", SiteParams))
        run.write_contract("summary.json", told)


if __name__ == "__main__":
    main()
