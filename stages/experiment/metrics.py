"""What a claim may be about: named numbers of a finished run, per item where the run has items.

A rate is in percent, a loss in nats per token or bits per byte. The values of a run's items are such that their plain
mean is the run's number as the pages show it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from itertools import chain
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.artifacts import (
    AGREEMENT,
    CONTAMINATION,
    EVALUATED,
    INSTRUCTIONS,
    JUDGED,
    LADDER,
    LEADERBOARD,
    RESPONSES,
)
from stages.base.errors import InputError, ParamError
from stages.experiment import readers
from stages.experiment.declaration import Declaration, MetricFile
from stages.experiment.readers import TEST, Row

if TYPE_CHECKING:
    import pandas as pd

Values = Mapping[str, Any]
ALIGNED = ("sft", "rft", "dpo", "ppo", "grpo")
COLUMNS = ("item", "cluster", "value", "compute", "predicted")


@dataclass(frozen=True)
class Metric:
    """One number of a run, or one an item."""

    name: str
    says: str
    """What it is, in one line."""
    unit: str
    files: tuple[str, ...]
    """All that is read for it, the one with the numbers first."""
    read: Callable[[Path], list[Row]]
    """Rows with `value`, and `item`, `cluster`, `compute`, `predicted` where there are such, below a run's root."""
    low: float = -inf
    high: float = inf
    """What it can't be below and above."""
    item: str = ""
    """What an item is; "" for one number a run."""
    cluster: str = ""
    """What items come in groups of, if known."""
    scaling: bool = False
    """Its items carry compute: what rules on multipliers and slopes need."""
    forecast: bool = False
    """It comes with what was predicted: what the rule `reached = predicted ± x` needs."""

    @property
    def span(self) -> float:
        """The widest gap that two arms can have."""
        return self.high - self.low


def read_outcome(metric: Metric, root: Path) -> "pd.DataFrame":
    """Columns item (str, "" for one number a run), cluster (str, "" where unknown), value, compute (FLOPs) and
    predicted (NaN where there is none) of a run whose files lie below `root`.

    Raises InputError naming file and key for a file, column or number that is missing, and for items given twice.
    """
    import pandas as pd

    rows = metric.read(root)
    if not rows:
        raise InputError(f"{root / metric.files[0]}: no row for metric `{metric.name}`")
    for row in rows:
        value = row["value"]
        if value is None or isinstance(value, str) or not isfinite(value):
            place = f", item {row['item']}" if row.get("item") else ""
            raise InputError(f"{root / metric.files[0]}: metric `{metric.name}` is {value}{place}; it must be a number")
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    if len(rows) > 1 and (twice := next((item for item, n in Counter(columns["item"]).items() if n > 1), None)):
        raise InputError(f"{root / metric.files[0]}: metric `{metric.name}`: item `{twice}` stands there twice")
    for name in ("item", "cluster"):
        columns[name] = ["" if value is None else str(value) for value in columns[name]]
    return pd.DataFrame(columns).astype({"value": float, "compute": float, "predicted": float})


def find(asked: str | MetricFile, values: Values) -> Metric:
    """The metric of a run with these params. Raises ParamError with the nearest name."""
    if isinstance(asked, MetricFile):
        return of_file(asked)
    known = catalogue(values)
    if asked not in known:
        raise ParamError(f"unknown metric `{asked}`{_near(asked, known)} (`trainyard experiment metrics` lists all)")
    return known[asked]


def asked_for(declaration: Declaration, values: Values) -> list[Metric]:
    """The ruling metric and then the reported ones. Raises ParamError for one that a run with these params lacks."""
    return [find(metric, values) for metric in (declaration.metric, *declaration.metrics)]


def targets(declaration: Declaration, values: Values) -> tuple[str, ...]:
    """The files that a run with these params must make for its claim."""
    files = [file for metric in asked_for(declaration, values) for file in metric.files]
    return tuple(dict.fromkeys(files))


def _near(asked: str, known: Mapping[str, Metric]) -> str:
    """Of the model that is asked for first: `dpo/rigth` is nearer to `dpo/right` than to `ppo/right`."""
    model, _, rest = asked.partition("/")
    same = [name.partition("/")[2] for name in known if name.partition("/")[0] == model]
    if same and (close := get_close_matches(rest, same, n=1, cutoff=0.5)):
        return f"; did you mean `{model}/{close[0]}`?"
    close = get_close_matches(asked, list(known), n=1, cutoff=0.5)
    return f"; did you mean `{close[0]}`?" if close else ""


def of_file(asked: MetricFile) -> Metric:
    """A number or a column that a declaration names itself."""
    if asked.key is not None:
        return Metric(
            name=f"{asked.file}:{asked.key}", says="a number of a file", unit="", files=(asked.file,),
            read=partial(readers.number, file=asked.file, key=asked.key),
        )  # fmt: skip
    where = "".join(f",{column}={value}" for column, value in asked.where.items())
    return Metric(
        name=f"{asked.file}:{asked.value}{where}", says="a column of a table", unit="", files=(asked.file,),
        read=partial(readers.column, asked=asked), item=asked.item or "", cluster=asked.cluster or "",
    )  # fmt: skip


def catalogue(values: Values) -> dict[str, Metric]:
    """Every metric by name that a run with these params has."""
    try:
        read = (
            *values["models"].values(), values["judging"]["answerers"], values["corpus"]["sources"],
            values["scaling"]["points"], values["alignment"]["instructions"], *values["evaluation"].values(),
        )  # fmt: skip
        key = tuple(map(id, read))  # runs share what their arms don't change as the very same objects, kept beside
        if key not in _CATALOGUES:
            _CATALOGUES[key] = read, _catalogue(values)
    except (AttributeError, KeyError, TypeError):  # a section that an arm has replaced by something else
        raise ParamError("no metrics can be named with params that have such mistakes; mend them first") from None
    return _CATALOGUES[key][1]


_CATALOGUES: dict[tuple[int, ...], tuple[Any, dict[str, Metric]]] = {}


def _catalogue(values: Values) -> dict[str, Metric]:
    evaluated = [*values["models"]["trained"], *values["models"]["import"]]
    judged = [*evaluated, *values["judging"]["answerers"]]
    found = chain(
        chain.from_iterable(_of_model(model, values) for model in evaluated),
        chain.from_iterable(_of_answers(model, values, model in evaluated) for model in judged),
        _of_points(values),
        _of_corpus(values),
        _of_numbers(values),
    )
    return {metric.name: metric for metric in found}  # a number's name wins over a model's: pretrain/bpb


def _of_model(model: str, values: Values) -> Iterator[Metric]:
    file = f"{EVALUATED}/{model}/items.parquet"
    bits: dict[str, Any] = {"unit": "bits per byte", "files": (file,), "low": 0.0, "item": "document"}
    says = "held-out text, each document weighing by its bytes"
    yield Metric(f"{model}/bpb", f"{says}; all texts", read=partial(readers.bits, file=file, text=None), **bits)
    for text in values["evaluation"]["texts"]:
        yield Metric(
            f"{model}/bpb/{text}", f"{says}; one text", read=partial(readers.bits, file=file, text=text), **bits
        )
    protocols = list(values["evaluation"]["evaluate"]["shots"])
    usual = next(
        (one for one in (("chat",) if model in ALIGNED else ()) + ("cloze",) if one in protocols), protocols[0]
    )
    for task, settings in values["evaluation"]["tasks"].items():
        truth = f"{settings['path']}/questions.parquet" if settings["kind"] == "truth" else None
        common: dict[str, Any] = {
            "unit": "percent", "files": (file, *([truth] if truth else [])), "low": 0.0, "high": 100.0,
            "item": "question", "cluster": "entity" if truth else "",
        }  # fmt: skip
        for protocol in (None, *protocols):
            name = f"{model}/{task}" + (f"/{protocol}" if protocol else "")
            asked = (protocol,) if protocol else (usual, "task")
            read = partial(readers.answers, file=file, task=task, protocols=asked, truth=truth)
            how = (
                f"by protocol {protocol}"
                if protocol
                else "by protocol chat for models of alignment, else cloze; by its own template where its file says so"
            )
            yield Metric(name, f"questions of a task answered rightly, {how}", read=read, **common)
            yield Metric(
                f"{name}/probability", "probability given to the right choice among the choices",
                read=partial(read, probability=True), **common,
            )  # fmt: skip


def _of_answers(model: str, values: Values, has_tokens: bool) -> Iterator[Metric]:
    sources = values["alignment"]["instructions"]["sources"]
    asked = tuple(f"{INSTRUCTIONS}/{key}/instructions.parquet" for key in sources)
    items: dict[str, Any] = {"item": "question", "cluster": "entity"}
    exact = f"{JUDGED}/{model}/exact.parquet"
    verdicts = f"{JUDGED}/{model}/annotations.parquet"
    outputs = f"{RESPONSES}/{model}/outputs.parquet"
    for name, column, unit, low, high, says in (
        ("right", "right", "percent", 0.0, 100.0, "answers with all facts that were asked for and no untrue one"),
        ("score", "score", "facts", -inf, inf, "true facts that were asked for less untrue ones, an answer"),
        ("correct", "correct", "facts", 0.0, inf, "true facts that were asked for, an answer"),
        ("wrong", "wrong", "facts", 0.0, inf, "untrue facts, an answer: what was made up"),
    ):
        read = partial(
            readers.of_test, file=exact, column=column, scale=100.0 if unit == "percent" else 1.0, asked=asked
        )
        yield Metric(f"{model}/{name}", says, unit, (exact, *asked), read, low, high, **items)
    yield Metric(
        f"{model}/win_rate", "answers that the judge prefers to the same run's baseline, a tie half", "percent",
        (verdicts, *asked), partial(readers.preferences, file=verdicts, asked=asked), 0.0, 100.0, **items,
    )  # fmt: skip
    yield Metric(
        f"{model}/lc", "the win rate at the baseline's length (length-controlled)", "percent", (LEADERBOARD,),
        partial(readers.row_of, file=LEADERBOARD, model=model, key="lc_win_rate"), 0.0, 100.0,
    )  # fmt: skip
    for name, column, unit in (("length", "output", "characters"), ("tokens", "tokens", "tokens"))[: 1 + has_tokens]:
        read = partial(readers.of_test, file=outputs, column=column, scale=1.0, asked=asked)
        yield Metric(f"{model}/{name}", f"{unit} of an answer", unit, (outputs, *asked), read, 0.0, **items)
    metrics = f"{JUDGED}/{model}/metrics.json"
    yield Metric(
        f"{model}/judge_usd", "dollars that its judging cost, test questions", "dollars", (metrics,),
        partial(readers.number, file=metrics, key=f"{TEST}_usd"), 0.0,
    )  # fmt: skip


def _of_points(values: Values) -> Iterator[Metric]:
    points = values["scaling"]["points"]
    kinds = {key: point["arch"] for key, point in points.items()}
    main = "transformer" if "transformer" in kinds.values() else next(iter(kinds.values()), "transformer")
    for name, key, unit in (("loss", "loss", "nats per token"), ("bpb", "bpb", "bits per byte")):
        for arch in (None, *dict.fromkeys(kinds.values())):
            wanted = [point for point, kind in kinds.items() if kind == (arch or main)]
            files = tuple(f"{LADDER}/{point}/point.json" for point in wanted)
            says = f"validation loss of the ladder's {'points of one architecture' if arch else 'Transformers'}"
            yield Metric(
                f"ladder/{name}" + (f"/{arch}" if arch else ""), f"{says}, with their compute", unit, files,
                partial(readers.ladder_points, points=wanted, key=key), 0.0, item="point", scaling=True,
            )  # fmt: skip


STAGES = ("extract", "screen", "dedup", "heuristics", "quality", "domains", "decontaminate", "mix")


def _of_corpus(values: Values) -> Iterator[Metric]:
    for stage in STAGES:
        for name in ("documents", "bytes"):
            says = f"{name} of text that the corpus has after a stage"
            yield _json(f"{stage}/{name}", says, name, f"data/corpus/{stage}/metrics.json", f"{name}_out", low=0.0)
    for source in values["corpus"]["sources"]:
        says = "how well the quality classifier tells trusted pages of a source (AUC)"
        file = "data/corpus/quality/metrics.json"
        yield _json(f"quality/{source}/auc", says, "", file, f"{source}_auc", low=0.0, high=1.0)
    planted = values["evaluation"]["contamination"]["probe"]["copies"]
    if numbers := [copies for copies in planted if isinstance(copies, int)]:
        yield Metric(
            "contamination/p", "p-value of the ordering test on the set that was planted most often", "",
            (CONTAMINATION,), partial(readers.planted, copies=str(max(numbers))), 0.0, 1.0,
        )  # fmt: skip
    for copies in planted:
        says = "p-value of the ordering test on a set planted so many times in the training text"
        yield Metric(
            f"contamination/p/{copies}",
            says,
            "",
            (CONTAMINATION,),
            partial(readers.planted, copies=str(copies)),
            0.0,
            1.0,
        )


# name: what it says, unit, file, key. A share becomes percent.
_SHARES = {
    "dedup/exact_recall": ("planted exact copies that were found", "corpus/dedup", "exact_duplicate_recall"),
    "dedup/near_recall": ("planted near copies that were found", "corpus/dedup", "near_duplicate_recall"),
    "dedup/boilerplate_recall": ("planted boilerplate that was cut", "corpus/dedup", "boilerplate_recall"),
    "dedup/editions_kept": ("planted new editions, no duplicates, that were kept", "corpus/dedup", "edition_kept"),
    "dedup/precision": ("dropped documents that are duplicates", "corpus/dedup", "duplicate_precision"),
    "screen/spam_recall": ("planted spam that was dropped", "corpus/screen", "spam_recall"),
    "screen/pii_recall": ("planted personal data that was replaced", "corpus/screen", "pii_recall"),
    "screen/opt_out_recall": ("planted opt-outs that were heeded", "corpus/screen", "opt_out_recall"),
    "decontaminate/recall": ("planted test questions that were found", "corpus/decontaminate", "quiz_leak_recall"),
    "domains/accuracy": ("documents whose domain was guessed rightly", "corpus/domains", "accuracy"),
    "tokenizer/used": ("vocabulary that held-out text uses", "tokens/tokenizer", "vocabulary_used_share"),
    "annotate/agreement": ("pairs labelled as the truth has it", "alignment/annotate", "score_agreement"),
    "annotate/longer": ("pairs where the longer answer was preferred", "alignment/annotate", "chose_longer"),
    "reward/accuracy": ("held-out pairs that the reward ranks as labelled", "alignment/reward", "held_out_accuracy"),
    "dpo/accuracy": ("held-out pairs that DPO ranks as labelled", "alignment/dpo", "validation_preference_accuracy"),
}
_RATIOS = {
    "tokenizer/bytes_per_token": ("bytes of held-out text a token", "bytes", "tokens/tokenizer", "bytes_per_token"),
    "tokenizer/tokens_per_word": ("tokens of held-out text a word", "tokens", "tokens/tokenizer", "tokens_per_word"),
    "tokenizer/vocabulary": ("entries of the vocabulary", "entries", "tokens/tokenizer", "vocab_size"),
    "pretrain/bpb": ("validation text after pretraining", "bits per byte", "pretraining/pretrain", "validation_bpb"),
    "pretrain/flops": ("compute of the planned run", "FLOPs", "pretraining/pretrain", "flops"),
    "anneal/loss": ("validation text after the anneal", "nats per token", "pretraining/anneal", "validation_loss"),
    "anneal/bpb": ("validation text after the anneal", "bits per byte", "pretraining/anneal", "validation_bpb"),
    "sft/loss": ("validation answers after fine-tuning", "nats per token", "alignment/sft", "validation_loss"),
    "dpo/kl": ("how far DPO moved from SFT on validation", "nats per answer", "alignment/dpo", "validation_kl_to_sft"),
    "ppo/kl": ("how far PPO moved from SFT on validation", "nats per answer", "alignment/ppo", "validation_kl_to_sft"),
    "fit/lstm_multiplier": (
        "compute that LSTMs need for a Transformer's loss", "times", "scaling/fit", "lstm_compute_multiplier"
    ),
}  # fmt: skip
_AGREED = {
    "agreement/annotators": ("annotators who agree with the others", "agreement"),
    "agreement/truth": ("verdicts that are the truth's", "truth_agreement"),
    "agreement/first": ("verdicts for the answer shown first", "prefers_first"),
    "agreement/longer": ("verdicts for the longer answer", "prefers_longer"),
}


def _of_numbers(_: Values) -> Iterator[Metric]:
    for name, (says, folder, key) in _SHARES.items():
        yield _json(name, says, "percent", f"data/{folder}/metrics.json", key, scale=100.0, low=0.0, high=100.0)
    for name, (says, unit, folder, key) in _RATIOS.items():
        yield _json(name, says, unit, f"data/{folder}/metrics.json", key, low=0.0)
    for name, (says, key) in _AGREED.items():
        yield _json(name, says, "percent", AGREEMENT, f"pool.{key}", low=0.0, high=100.0)
    file = "data/alignment/ppo/metrics.json"
    yield _json("ppo/reward", "reward that PPO ends with", "reward", file, "last_reward")
    yield _json("pack/tokens", "tokens to train on, repeats counted", "tokens", "data/tokens/pack/pack.json",
                "train.tokens", low=0.0)  # fmt: skip
    file = "data/pretraining/pretrain/metrics.json"
    yield Metric(
        "pretrain/loss", "validation text after pretraining, with what the plan predicted", "nats per token", (file,),
        partial(readers.number, file=file, key="validation_loss", predicted="predicted_loss"), 0.0, forecast=True,
    )  # fmt: skip


def _json(
    name: str, says: str, unit: str, file: str, key: str, scale: float = 1.0, low: float = -inf, high: float = inf
) -> Metric:
    return Metric(name, says, unit, (file,), partial(readers.number, file=file, key=key, scale=scale), low, high)


CATALOGUE = catalogue(
    {
        "models": {"trained": {"<model>": {}}, "import": {}},
        "judging": {"answerers": {}},
        "corpus": {"sources": {"<source>": {}}},
        "scaling": {"points": {"w24": {"arch": "<arch>"}}},
        "alignment": {"instructions": {"sources": {"<instructions>": {}}}},
        "evaluation": {
            "tasks": {"<task>": {"kind": "truth", "path": "<source>"}},
            "texts": {"<text>": {}},
            "evaluate": {"shots": {"<protocol>": 0}},
            "contamination": {"probe": {"copies": ["<copies>"]}},
        },
    }
)
"""Every name with its placeholders, for lists."""
