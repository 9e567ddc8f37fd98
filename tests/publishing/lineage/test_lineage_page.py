"""The chain of a row as a page: every link leads somewhere, every record and hash is there, markup of others isn't."""

import json
import re
from pathlib import Path

import pytest

from stages import cli
from stages.publishing.lineage.chain import row_chain
from stages.publishing.lineage.records import Graph, read_records
from tests.publishing.html_page import Page


@pytest.fixture
def page(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["trace", "sft", "--page"]) == 0
    return Path("reports/lineage/sft.html").read_text(encoding="utf-8")


def test_every_stage_and_hash_stands_there_and_every_link_leads_to_one(page: str) -> None:
    assert not Page(page).open
    ids = set(re.findall(r'id="([^"]+)"', page))
    links = re.findall(r'href="#([^"]+)"', page)
    assert set(links) <= ids and len(links) > 40
    nodes, _ = row_chain("sft", Graph(read_records()))
    for node in nodes.values():
        assert f">{node.record.label}<" in page
        for path, digest in (node.record.inputs | node.record.outputs).items():
            assert path in page and digest[:16] in page


def test_an_input_links_to_the_stage_that_wrote_it(page: str) -> None:
    row = re.search(r"<tr><td class=\"mono\">data/corpus/mix/train.parquet</td>.*?</tr>", page)
    assert row is not None and "corpus.mix" in row[0]
    outside = re.search(r"<tr><td class=\"mono\">crawl.warc</td>.*?</tr>", page)
    assert outside is not None and "from outside the pipeline" in outside[0]


def test_contradictions_stand_on_the_page(project: Path) -> None:
    path = Path("data/corpus/mix/record.json")
    facts = json.loads(path.read_text())
    facts["params"]["corpus.mix"]["share"] = "<script>alert(1)</script>"
    path.write_text(json.dumps(facts, sort_keys=True, indent=2) + "\n")
    assert cli.main(["trace", "sft", "--page"]) == 1
    page = Path("reports/lineage/sft.html").read_text(encoding="utf-8")
    assert "Contradictions" in page and "corpus.mix.share" in page and "<script>" not in page
