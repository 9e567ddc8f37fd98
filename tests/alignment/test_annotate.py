"""The stage with several annotators and answerers, and those that are no use; the source of people's votes."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from stages.alignment import annotate, instructions, leakage, preferences
from stages.cli import main
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.checkpoint import save_model
from tests.annotators.flaky_server import FlakyJudge, Scripted
from tests.annotators.served import start  # noqa: F401

ROOT = Path(__file__).parents[2]
FOLDER = Path("data/alignment/annotate")
Change = Callable[..., None]


@pytest.fixture
def change(
    tokenizer: ChatTokenizer, make_model: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> Change:
    """change(section={key: value}): params of alignment; an SFT model and its base stand ready."""
    monkeypatch.setenv("TRAINYARD_TRACK", "off")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))  # a cache of calls of its own
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    alignment = params["alignment"]
    alignment["base"] = "tiny"
    alignment["annotate"] |= {"samples": 3, "pairs": "all", "max_new_tokens": 6, "max_drop": 1.0}
    sources = {"own": {"kind": "jsonl", "path": "own.jsonl", "splits": {"preference": 0.5}}}
    alignment["instructions"]["sources"] = sources

    def write(**sections: dict[str, Any]) -> None:
        for name, changes in sections.items():
            alignment[name] |= changes
        Path("params.yaml").write_text(yaml.safe_dump(params))

    write()
    rows = [{"prompt": f"What is {n} and 1?", "response": str(n + 1)} for n in range(40)]
    Path("own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_model("data/models/sft", make_model(0), tokenizer)
    save_model("data/models/tiny", make_model(1), tokenizer)
    for folder in ("instructions", "preferences"):
        Path("data/alignment", folder).mkdir(parents=True)
        Path("data/alignment", folder, "items.json").write_text('["own"]')
    Path("data/evaluation/task").mkdir(parents=True)
    Path("data/evaluation/task/items.json").write_text("[]")
    instructions.main("own")
    leakage.main()
    return write


def read(name: str) -> list[dict[str, Any]]:
    return pq.read_table(FOLDER / name).to_pylist()


def metrics() -> dict[str, Any]:
    return json.loads((FOLDER / "metrics.json").read_text())


def notes() -> dict[str, Any]:
    return json.loads((FOLDER / "record.json").read_text())["notes"]


def test_all_votes_are_written_and_their_mean_is_the_preference(change: Change) -> None:
    annotate.main()
    alone = {(row["prompt"], row["chosen"], row["rejected"]) for row in read("preferences.parquet")}
    change(annotate={"votes": {"each": 2, "disputed": 4, "max_extra": None, "models": [], "max_missing": 0.0}})
    annotate.main()
    votes: dict[str, list[dict[str, Any]]] = {}
    for row in read("votes.parquet"):
        votes.setdefault(row["id"], []).append(row)
    assert {2, 4} <= {len(on) for on in votes.values()} <= {2, 3, 4}
    means = {}
    for on in votes.values():
        assert len({row["annotator"] for row in on}) == len(on)
        texts, mean = (on[0]["output_a"], on[0]["output_b"]), math.fsum(row["preference"] for row in on) / len(on)
        means[on[0]["prompt"], *(texts if mean < 1.5 else texts[::-1])] = mean
    found = read("preferences.parquet")
    for row in found:
        assert row["preference"] == pytest.approx(means[row["prompt"], row["chosen"], row["rejected"]])
    assert len(found) == len(votes) and alone != set(means)  # some first votes are outvoted
    numbers = metrics()
    assert numbers["votes"] == sum(map(len, votes.values())) and numbers["bias"] is None
    assert numbers["alpha_low"] < numbers["alpha"] < numbers["alpha_high"]
    assert numbers["disputed"] == sum(len(on) > 2 for on in votes.values())
    pairs = [json.loads(line) for line in (FOLDER / "pairs.jsonl").read_text().splitlines()]
    hidden = {name for name, on in votes.items() if "\0" in on[0]["output_a"] + on[0]["output_b"]}
    assert sorted(pair["id"] for pair in pairs) == sorted(set(votes) - hidden)
    assert numbers["unshowable"] == len(hidden)
    assert set(pairs[0]) == {"id", "prompt", "output_a", "output_b"}
    lean = [
        abs(math.fsum(row["preference"] - 1.5 for row in votes[pair["id"]]) / len(votes[pair["id"]])) for pair in pairs
    ]
    assert lean == sorted(lean)


def test_answers_of_a_weaker_model_and_hotter_ones_are_compared_too(change: Change) -> None:
    hotter = [{"model": "base", "samples": 2, "temperature": 1.0}, {"model": "sft", "samples": 1, "temperature": 2.0}]
    change(annotate={"also": hotter})
    annotate.main()
    record = json.loads((FOLDER / "record.json").read_text())
    assert {"data/models/sft", "data/models/tiny"} <= set(record["inputs"])
    rows = record["rows"]
    assert rows["in"] == rows["out"] + sum(rows["dropped"].values()) and rows["in"] % (6 * 5 // 2) == 0
    told = record["notes"]["answerers"]
    assert [(one["model"], one["samples"], one["temperature"]) for one in told] == [
        ("sft", 3, 1.0), ("base", 2, 1.0), ("sft", 1, 2.0),
    ]  # fmt: skip
    assert all(0 <= one["won"] <= 1 and one["compared_with_others"] > 0 for one in told)
    assert {int(row["id"].rpartition("-")[2]) for row in read("votes.parquet")} == {1, 2, 3, 4, 5}
    change(annotate={"also": []})
    annotate.main()
    assert "data/models/tiny" not in json.loads((FOLDER / "record.json").read_text())["inputs"]


def test_an_annotator_that_always_says_the_first_leaves_nothing(change: Change, capsys: pytest.CaptureFixture) -> None:
    params = yaml.safe_load(Path("params.yaml").read_text())["alignment"]["annotate"]["annotator"]
    pool = params["pool"] | {"annotators": 1, "position_bias": 30.0, "noise": 0.0, "label_noise": 0.0}
    change(annotate={"annotator": params | {"pool": pool}})
    with pytest.raises(SystemExit, match="2"):
        annotate.main()
    told = capsys.readouterr().err
    assert "simulated-0 names the answer shown first in 100% of" in told
    assert "dropped: " in told and "one_sided " in told
    assert not FOLDER.exists()


def test_nonsense_is_counted_and_too_much_of_it_is_an_error(
    change: Change,
    start: Callable[[FlakyJudge], str],  # noqa: F811
    capsys: pytest.CaptureFixture,
) -> None:
    """A server that says something else than a label to every third prompt."""

    def script(body: dict[str, Any], number: int) -> tuple[int, dict[str, Any], str]:
        prompt = body["messages"][0]["content"]
        said = "Both are lovely." if int(prompt.split("What is ")[1].split()[0]) % 3 == 0 else "12"[len(prompt) % 2]
        message = {"role": "assistant", "content": said}
        return 200, {"model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": message}]}, ""

    annotator = yaml.safe_load(Path("params.yaml").read_text())["alignment"]["annotate"]["annotator"]
    annotator |= {"provider": "openai", "base_url": start(Scripted(script)), "logprobs": False, "max_retries": 0}
    votes = {"each": 1, "disputed": 1, "max_extra": None, "models": [], "max_missing": 0.5}
    change(annotate={"annotator": annotator, "votes": votes})
    annotate.main()
    numbers, rows = metrics(), json.loads((FOLDER / "record.json").read_text())["rows"]
    assert numbers["votes_missing"] == rows["dropped"]["no_preference"] > 0 and numbers["pairs"] == numbers["votes"]
    assert any("Both are lovely" in error for error in notes()["errors"])
    assert not any(int(row["prompt"].split()[2]) % 3 == 0 for row in read("preferences.parquet"))
    change(annotate={"votes": votes | {"max_missing": 0.1}})
    with pytest.raises(SystemExit, match="2"):
        annotate.main()
    told = capsys.readouterr().err
    assert "votes.max_missing`, 10.0%, allows: the reply is neither 1 nor 2" in told
    assert f"`alignment.annotate.annotator.base_url`, {annotator['base_url']}: see that a model answers there" in told


def test_votes_of_people_are_a_source(change: Change, capsys: pytest.CaptureFixture) -> None:
    change(preferences={"sources": {"own": {"kind": "votes", "path": "votes.jsonl", "max_drop": 0.5}}})
    pair = {"output_a": "yes", "output_b": "no", "order": "ab"}
    rows = [
        {**pair, "id": str(n), "prompt": f"Is {n} odd?", "annotator": name, "vote": vote}
        for n, cast in enumerate(("aa", "ab", "ba", "bb", "ss"))
        for name, vote in zip(("Ida", "Bo"), [{"s": "skip"}.get(one, one) for one in cast], strict=True)
    ]
    Path("votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SystemExit, match="2"):
        preferences.main("own")
    assert "3 of 5 pairs have no preference (no_preference 1, tie 2)" in capsys.readouterr().err
    change(preferences={"sources": {"own": {"kind": "votes", "path": "votes.jsonl", "max_drop": 0.6}}})
    preferences.main("own")
    folder = Path("data/alignment/preferences/own")
    found = pq.read_table(folder / "preferences.parquet").to_pylist()
    assert [(row["id"], row["chosen"], row["annotator"]) for row in found] == [
        ("0", "yes", "Ida, Bo"), ("3", "no", "Ida, Bo"),
    ]  # fmt: skip
    numbers = json.loads((folder / "metrics.json").read_text())
    assert (numbers["pairs"], numbers["votes"], numbers["agreement"], numbers["kappa"]) == (2, 8, 0.5, 0.0)
    assert json.loads((folder / "record.json").read_text())["rows"]["dropped"] == {"no_preference": 1, "tie": 2}


def test_inspect_sets_annotators_beside_people(change: Change, capsys: pytest.CaptureFixture) -> None:
    change(annotate={"votes": {"each": 2, "disputed": 2, "max_extra": None, "models": [], "max_missing": 0.0}})
    annotate.main()
    lines = (FOLDER / "pairs.jsonl").read_text().splitlines()
    assert metrics()["unshowable"] == len({row["id"] for row in read("votes.parquet")}) - len(lines)
    rows = [json.loads(line) | {"annotator": name, "vote": "a"} for line in lines for name in ("Ida", "Bo")]
    Path("votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    capsys.readouterr()
    assert main(["inspect", "votes.jsonl"]) == 0
    told = capsys.readouterr().out
    shown = {json.loads(line)["id"] for line in lines}
    votes = [row for row in read("votes.parquet") if row["id"] in shown]
    agreed = sum(row["preference"] < 1.5 for row in votes) / len(votes)
    assert f"on {len(lines)} pairs of both: agreement_with_people {agreed:.1%}, bias " in told
    assert "people_variance 0.0%" in told
