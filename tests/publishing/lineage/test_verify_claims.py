"""verify reads the record of claims' pages: a flipped bit in a page, in the record or in what a page stands on is
found; what isn't here is told; nothing is made anew from an edited file."""

import json
from pathlib import Path

import pytest

from stages import cli
from stages.base.errors import InputError
from stages.base.files import sha256_file
from stages.commands.verify import audit_project
from stages.publishing.claims.publish import write_claim, write_suite
from stages.publishing.claims.record import RECORD, read_record, unedited, write_record
from stages.publishing.html.site import SiteParams
from stages.publishing.lineage.project import Project
from tests.contracts import claims
from tests.publishing.lineage.conftest import flip

SITE = SiteParams(title="Trainyard", pages=["leaderboard", "claims"])
DECLARATION, RUNS = Path("experiments/dpo_rate.yaml"), Path(".trainyard/experiments/claims/dpo_rate")
NAMES = [example().name for example in claims.EXAMPLES]


@pytest.fixture
def reported(project: Path) -> Path:
    """Pages of three claims, of which one has its declaration and its runs here."""
    examples = [example() for example in claims.EXAMPLES]
    for claim in examples:
        write_claim(claim, SITE)
    write_suite(examples, {}, [], SITE)
    RUNS.mkdir(parents=True)
    DECLARATION.parent.mkdir()
    DECLARATION.write_text(claims.DECLARATION)
    for name in ("verdict.json", "outcomes.parquet", "mlflow.json"):
        (RUNS / name).write_text(f"of {name}")
    write_record({"dpo_rate": (DECLARATION, RUNS)}, NAMES)
    return project


def findings(target: str | None = None) -> list[str]:
    return [str(one) for one in audit_project(Project(), target)[0].wrong]


def test_pages_as_they_were_written_pass(reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify"]) == 0
    told = capsys.readouterr().out
    assert "no stage wrote it" not in told and "made before there was a record of its runs" in told
    assert cli.main(["verify", "reports/claims.html"]) == 0
    assert "0 stages, 14 files hash to what their records say" in capsys.readouterr().out, "11 pages, 3 of one's runs"
    assert cli.main(["verify", "reports/claims/dpo_rate.html"]) == 0
    assert "6 files" in capsys.readouterr().out
    record = json.loads(RECORD.read_text())
    for entry in record["claims"].values():
        for path, digest in (entry["pages"] | entry["stands_on"]).items():
            assert sha256_file(path) == digest
    (RUNS / "mlflow.json").write_text("written after the page")
    assert not findings()


PAGES = [f"reports/claims/{name}{kind}" for name in NAMES for kind in (".html", ".json", ".md")]


@pytest.mark.parametrize(
    "path",
    [*PAGES, "reports/claims.html", "reports/claims.md", DECLARATION, RUNS / "verdict.json", RUNS / "outcomes.parquet"],
)
def test_one_flipped_bit_is_found(reported: Path, path: str | Path) -> None:
    flip(path)
    (told,) = findings("reports/claims.html")
    assert told.startswith(f"{path}: ")
    assert told in findings()


@pytest.mark.parametrize("share", [i / 40 for i in range(40)])
def test_a_bit_anywhere_in_the_record_is_found(reported: Path, share: float) -> None:
    flip(RECORD, int(share * RECORD.stat().st_size))
    (told,) = findings("reports/claims.html")
    assert str(RECORD) in told
    with pytest.raises(InputError, match=r"claims\.json"):
        write_record({}, NAMES)


def test_what_is_gone_is_told(reported: Path) -> None:
    (RUNS / "verdict.json").unlink()
    audit, _ = audit_project(Project())
    assert not audit.wrong and any("verdict.json" in one.path for one in audit.unchecked)
    Path("reports/claims/dpo_rate.md").unlink()
    assert any("dpo_rate.md: not here" in one for one in findings())
    Path("reports/claims/mine.html").write_text("x")
    assert any("mine.html" in one.path for one in audit_project(Project())[0].unchecked)


def test_runs_of_elsewhere_stay_in_the_record(reported: Path) -> None:
    former = read_record()
    write_record({}, NAMES)
    assert read_record() == former
    write_record({}, NAMES[1:])
    kept = read_record()
    assert kept is not None and list(kept.claims) == sorted(NAMES[1:])


def test_no_page_is_made_anew_from_an_edited_file(reported: Path) -> None:
    unedited("dpo_rate", read_record())
    flip("reports/claims/dpo_rate.json")
    with pytest.raises(InputError, match=r"dpo_rate\.json: edited since"):
        unedited("dpo_rate", read_record())


@pytest.mark.parametrize("target", ["reports/claims/nobody.html", "reports/claims/dpo_rat.html"])
def test_a_page_that_the_record_does_not_know_is_refused(reported: Path, target: str) -> None:
    with pytest.raises(InputError, match="doesn't know it"):
        audit_project(Project(), target)
