"""Model cards: the licence that an imported model states, and no name of the Hub that may be a stranger's."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from stages.publishing.cards.card import markdown
from stages.publishing.cards.model import model_card, published_models
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Graph, read_record, record_paths


def imported(folder: Path, readme: str | None) -> Project:
    """A project whose only model is brought from a folder beside it."""
    brought = folder / "brought"
    brought.mkdir()
    (brought / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    if readme is not None:
        (brought / "README.md").write_text(readme)
    root = folder / "project"
    root.mkdir()
    params = {"models": {"trained": {}, "import": {"small": {"path": str(brought)}}}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Project(root)


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Small\n", "apache-2.0"),
        ("---\r\nlicense: cc-by-4.0\r\n---\r\n", "cc-by-4.0"),
        ("# Small\n\nlicense: apache-2.0\n", "unknown"),
        ("---\nlicense: [mit, gpl]\n---\n", "unknown"),
        ("---\nlicense: '<script>alert(1)</script>'\n---\n", "unknown"),
        ("---\nlicense: &a [*a]\n---\n", "unknown"),
        ("---\nlicense: mit\nlicense: gpl\n---\n", "unknown"),
        ("---\nlicense: mit\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_imported_model_has_the_licence_that_its_readme_states(
    tmp_path: Path, readme: str | None, licence: str
) -> None:
    project = imported(tmp_path, readme)
    text = markdown(model_card(project, Graph([]), "small", ["en"]))
    card = ModelCard(text)
    assert card.data.to_dict()["license"] == licence and "<script" not in text
    assert "Brought from elsewhere" in text and "language" not in card.data.to_dict(), "the corpus's isn't its own"
    assert ("by its own README" in text) == (licence != "unknown")


def test_the_base_is_named_as_on_the_hub_only_with_an_owner(project: Path) -> None:
    """`base_model: sft` would be whoever's repository has that name."""
    record = Path("data/alignment/sft/record.json")
    facts = json.loads(record.read_text())
    facts["inputs"]["data/models/base/config.json"] = "0" * 64
    record.write_text(json.dumps(facts))
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["models"]["trained"] = {"base": {}, **params["models"]["trained"]}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("data/models/base").mkdir()
    Path("data/models/base/config.json").write_text("{}")
    told = Project()
    assert list(published_models(told)) == ["base", "sft"]
    graph = Graph([read_record(path) for path in record_paths(Path("data"))])
    alone, owned = (model_card(told, graph, "sft", [], owner) for owner in ("", "me"))
    assert "base_model" not in alone.metadata and "base_model_relation" not in alone.metadata
    assert owned.metadata["base_model"] == "me/base"
    assert all("Tuned from" in markdown(card) for card in (alone, owned))
