"""The published folder: whole or not at all, nobody else's files touched, links that lead somewhere, true hashes; and
cards that the Hub's own reader takes."""

import csv
import hashlib
import json
import lzma
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from stages import cli
from stages.publishing.cards.card import Card, Part, Table, markdown, marked
from stages.publishing.claims.publish import write_claim, write_suite
from stages.publishing.html.site import SiteParams
from stages.publishing.leaderboard.files import COLUMNS
from stages.publishing.site.comparison import comparison_page, summary_markdown
from stages.publishing.site.folder import MADE_BY, MARKER, broken_links, published
from stages.publishing.site.repeated import linked
from tests.contracts import claims

ROOT = Path(cli.__file__).parents[1]
HOSTILE = '<script>alert(1)</script> | `x` @ % " \u202e [a](javascript:b) ---'
SCHEMA = (  # of leaderboard.csv, as docs/publishing.md promises it: columns are only ever added at the end of a group
    "rank,tier,model,kind,control,baseline,chosen,win_rate,standard_error,n_wins,n_wins_base,n_draws,n_total,"
    "discrete_win_rate,discrete_win_rate_low,discrete_win_rate_high,avg_length,length_controlled_winrate,"
    "lc_standard_error,win_rate_low,win_rate_high,length_controlled_winrate_low,length_controlled_winrate_high,"
    "corrected_win_rate,corrected_low,corrected_high,n_truth,arena_rating,arena_rating_low,arena_rating_high,"
    "bradley_terry,bradley_terry_low,bradley_terry_high,right,right_low,right_high,mean_score,missing,prefers_first,"
    "prefers_longer,consistent,seeds,seeds_metric,seeds_mean,seeds_low,seeds_high,usd,usd_per_1000,seconds_per_1000,"
    "judge,judge_simulated,lineage"
)


def publish(*arguments: str) -> int:
    return cli.main(["publish", *arguments])


def test_the_schema_of_the_csv_is_what_is_documented() -> None:
    assert ",".join(COLUMNS) == SCHEMA


def test_the_site_is_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("out") == 0
    out = Path("out")
    assert not broken_links(out)
    assert (out / ".nojekyll").is_file() and (out / "index.html").is_file()
    told = json.loads((out / "provenance.json").read_text())
    for name, facts in told["files"].items():
        content = (out / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == facts["sha256"] and len(content) == facts["bytes"]
    here = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert here == {*told["files"], ".nojekyll", "provenance.json"}
    rows = list(csv.DictReader((out / "leaderboard.csv").open()))
    board = (out / "leaderboard.html").read_text()
    for row in rows:
        assert (out / "lineage" / f"{row['model']}.html").is_file()
        assert f'href="lineage/{row["model"]}.html"' in board
    original = Path("reports/leaderboard.html").read_bytes()
    assert told["files"]["leaderboard.html"]["made_from_sha256"] == hashlib.sha256(original).hexdigest()
    card = ModelCard((out / "cards/model-sft.md").read_text())
    assert card.data.to_dict()["library_name"] == "transformers"
    judged = {row["model"]: row for row in rows}["sft"]
    values = {one.metric_type: one.metric_value for one in card.data.eval_results or []}
    assert values["right"] == pytest.approx(float(judged["right"]), rel=1e-5)


def test_what_many_pages_repeat_is_there_once(project: Path) -> None:
    site, examples = SiteParams(title="T", pages=["leaderboard", "claims"]), [one() for one in claims.EXAMPLES]
    for claim in examples:
        write_claim(claim, site)
    write_suite(examples, {}, [], site)
    assert publish("out") == 0
    pages = {path: path.read_text() for path in Path("out").rglob("*.html")}
    for path, text in pages.items():
        assert "<style>" not in text, path
        (target,) = re.findall(r'<link rel="stylesheet" href="([^"]*)">', text)
        assert (path.parent / target).resolve() == Path("out/style.css").resolve()
        assert "style-src &#39;self&#39; file: &#39;unsafe-inline&#39;" in text
    told = lzma.decompress(Path("out/claims.jsonl.xz").read_bytes()).decode().splitlines()
    files = sorted(Path("reports/claims").glob("*.json"))
    assert [json.loads(line) for line in told] == [json.loads(file.read_text()) for file in files]
    assert len(told) == len(examples) and "claims.jsonl.xz" in pages[Path("out/claims.html")]
    first = Path("out/claims.jsonl.xz").read_bytes()
    assert publish("out") == 0 and Path("out/claims.jsonl.xz").read_bytes() == first


def test_a_page_of_another_version_keeps_its_style() -> None:
    page = '<meta content="style-src &#39;unsafe-inline&#39;"><style>\nb { color: red; }\n</style><b>x</b>'
    assert linked(page, "../") == page


def test_published_again_it_is_the_same_and_nothing_of_before_is_left(project: Path) -> None:
    assert publish("out") == 0
    first = {path: path.read_bytes() for path in sorted(Path("out").rglob("*.html"))}
    assert publish("out") == 0
    assert {path: path.read_bytes() for path in sorted(Path("out").rglob("*.html"))} == first
    assert not list(Path().glob(".out.*"))


def test_a_folder_of_others_is_refused_and_left_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    assert publish("mine") == 2 and "mine" in capsys.readouterr().err
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]
    assert publish("out") == 0
    Path("out/letter.txt").write_text("dear")
    assert publish("out") == 2 and "letter.txt" in capsys.readouterr().err
    assert Path("out/letter.txt").read_text() == "dear"


def test_contradictions_are_not_published(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/corpus/mix/record.json")
    facts = json.loads(path.read_text())
    facts["params"]["corpus.mix"]["share"] = 0.75
    path.write_text(json.dumps(facts))
    assert publish("out") == 2 and "corpus.mix" in capsys.readouterr().err
    assert not Path("out").exists() and not list(Path().glob(".out.*"))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html">b</a><a href="#x">x</a><a href="#y">y</a>')
    (tmp_path / "b.html").write_text(
        '<a href="../out">out</a><a href="https://elsewhere">e</a><a href="a.html#x">x</a>'
    )
    assert broken_links(tmp_path) == [("a.html", "#y"), ("b.html", "../out")]


def test_a_card_holds_texts_of_others_as_texts() -> None:
    card = Card("k", "model", HOSTILE, HOSTILE, {"license": HOSTILE}, [
        Part(HOSTILE, [HOSTILE], [(HOSTILE, HOSTILE)], Table(["a"], [[HOSTILE]]))
    ])  # fmt: skip
    text = markdown(card)
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    assert yaml.safe_load(front) == {"license": HOSTILE}
    assert "<script>" not in body.replace("\\<script", "") and "\u202e" not in body
    assert marked("a|b") == r"a\|b"


def compared(low: float | None) -> dict[str, object]:
    row = {
        "name": HOSTILE, "unit": "percent", "a": 50.0, "b": 52.5, "difference": 2.5, "low": low, "high": 4.0,
        "items": 360, "clusters": 0, "seeds": 0, "item": "question", "same": False,
    }  # fmt: skip
    if low is None:
        row["high"] = None
    side = {"name": "A", "about": "one"}
    return {
        "a": side, "b": {"name": "/home/me/run", "about": "folder /home/me/run"}, "params": {"x.y": {"a": HOSTILE}},
        "metrics": [row], "stages": {"all": 3, "differing": {"dpo": ["code"]}}, "notes": [],
    }  # fmt: skip


@pytest.mark.parametrize("low", [1.0, None])
def test_a_comparison_has_its_numbers_and_no_markup_of_others(low: float | None) -> None:
    page, text = comparison_page(compared(low), "T"), summary_markdown(compared(low), {"dpo": ("2", "1")})
    assert "<script>alert" not in page and "/home/me" not in page + text
    assert "+2.5" in page and "+2.5" in text and "dpo 2 → 1" in text
    assert ("1.0 to 4.0" in page) == (low is not None)


def test_a_publish_that_is_killed_leaves_the_former_site(tmp_path: Path) -> None:
    """SIGKILL while the new folder is being filled: nothing of it is in the site, and the next one goes through."""
    site = tmp_path / "out"
    with published(site) as new:
        (new / "index.html").write_text("first")
        (new / MARKER).write_text(json.dumps({"made_by": MADE_BY, "files": {"index.html": {}}}))
    code = (
        "import os, pathlib, signal, sys\n"
        "from stages.publishing.site.folder import published\n"
        "with published(pathlib.Path(sys.argv[1])) as new:\n"
        "    (new / 'index.html').write_text('second')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(site)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(path.name for path in site.iterdir()) == ["index.html", MARKER]
    assert (site / "index.html").read_text() == "first"
    with published(site) as new:
        (new / "index.html").write_text("third")
    assert (site / "index.html").read_text() == "third"
