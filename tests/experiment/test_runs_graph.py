"""Keys, digests and the forecast, against DVC itself on a small project."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from stages.base.errors import InputError, ParamError
from stages.experiment.runs.graph import graph_of, resolve
from stages.experiment.runs.objects import Ignored, Objects, cache_folder
from stages.experiment.runs.plan import forecast
from tests.experiment.toy import Toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path / "project")


def test_digests_and_keys_are_dvcs(toy: Toy) -> None:
    """What `dvc repro` has locked is what the same instances have as results here, at every place of dvc.lock: a run
    with the work tree's params has nothing to do, and one without the lock writes what DVC wrote."""
    toy.dvc("init", "--no-scm", "-q")
    toy.dvc("repro", "-q", "evaluate")
    before = toy.executed()
    lock = yaml.safe_load((toy.root / "dvc.lock").read_text())["stages"]

    known = resolve(toy.run(), toy.store())
    assert known.done
    for place in known.places:
        locked = lock[place.instance.label]
        assert place.deps == {dep["path"]: dep["md5"] for dep in locked["deps"]}
        assert place.outs == {out["path"]: out["md5"] for out in locked["outs"]}
    assert not toy.execute([toy.run()])[0].failed
    assert toy.executed() == before

    (toy.root / "dvc.lock").unlink()
    finished = toy.execute([toy.run()])
    assert not finished[0].failed
    ran = resolve(toy.run(), toy.store())
    for place in ran.places:
        locked = lock[place.instance.label]
        assert place.outs == {out["path"]: out["md5"] for out in locked["outs"]}
        assert place.result is not None
        assert place.result.sizes == {out["path"]: (out["size"], out.get("nfiles", 1)) for out in locked["outs"]}
    assert toy.executed()[len(before) :] == before


def test_a_reported_page_that_dvc_does_not_keep_need_not_be_there(toy: Toy) -> None:
    toy.execute([toy.run()])
    store = toy.store()
    page = next(p for p in resolve(toy.run(), store).places if p.instance.label == "join").outs
    assert page is not None
    store.objects.path(page["reports/join.html"]).unlink()
    assert resolve(toy.run(), toy.store()).done


def test_only_what_a_target_stands_on_is_in_the_graph(toy: Toy) -> None:
    graph = graph_of(toy.root, toy.values, ["data/join/joined.json"])
    assert [one.label for one in graph.instances] == ["check", "item@a", "item@b", "join"]
    with pytest.raises(ParamError, match=r"data/joined: no stage of dvc.yaml writes it; did you mean `data/join`"):
        graph_of(toy.root, toy.values, ["data/joined"])


def test_a_forecast_counts_what_is_then_executed(toy: Toy) -> None:
    toy.execute([toy.run()])
    arms = [toy.run(f"lr{lr}", seed, train_lr=lr) for lr in (0.5, 0.1, 0.2) for seed in (1, 2, 3)]
    plan = forecast(arms, toy.store())
    before = Counter(toy.executed())
    toy.execute(arms)
    executed = Counter(toy.executed()) - before
    stages = Counter(one.label for one in plan.to_run)
    assert stages == {"check": 8, "train": 8, "evaluate": 8}
    assert {name: executed[name] for name in stages} == stages
    assert plan.finished_runs == 1 and plan.runs == 9
    assert not plan.untimed and plan.cpu_seconds > 0
    assert not forecast(arms, toy.store()).to_run


def test_a_forecast_from_nothing_counts_shared_instances_once(toy: Toy) -> None:
    """Nothing is known: keys of what stands on unknown results are made up, and still equal where the real ones are."""
    arms = [toy.run(f"lr{lr}", train_lr=lr) for lr in (0.5, 0.1)]
    arms += [toy.run("same", train_lr=0.1), toy.run("join", join_sleep=0.01)]
    plan = Counter(one.label for one in forecast(arms, toy.store()).to_run)
    toy.execute(arms)
    executed = Counter(toy.executed())
    assert plan == {"check": 3, "item@a": 1, "item@b": 1, "join": 2, "train": 3, "evaluate": 3}
    # `join` writes the same after a longer sleep, which nobody could know before.
    assert {label: executed[label] for label in plan} == {**plan, "train": 2, "evaluate": 2}


def test_the_md5_of_a_folder_leaves_out_what_dvc_ignores(toy: Toy) -> None:
    (toy.root / "stages" / "__pycache__").mkdir()
    (toy.root / "stages" / "__pycache__" / "x.pyc").write_bytes(b"x")
    names = {path.name for path in Ignored(toy.root).files_below(toy.root / "stages")}
    assert "train.py" in names and "x.pyc" not in names


def test_an_edit_of_an_outside_file_is_another_instance(toy: Toy) -> None:
    toy.execute([toy.run()])
    (toy.root / "lists" / "b" / "deep" / "2.txt").write_text("other\n")
    needed = resolve(toy.run(), toy.store())
    assert [needed.places[index].instance.label for index in sorted(needed.needed)] == ["item@b"]
    (toy.root / "lists" / "a.txt").unlink()
    with pytest.raises(InputError, match=r"lists/a.txt: not found, and no stage writes it"):
        resolve(toy.run(), toy.store())


def test_cache_dir_of_dvcs_config(tmp_path: Path) -> None:
    assert cache_folder(tmp_path) == tmp_path / ".dvc/cache"
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n['remote \"x\"']\n    url = /y\n")
    assert cache_folder(tmp_path) == tmp_path / ".dvc/cache"
    (tmp_path / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../shared\n")
    assert cache_folder(tmp_path).resolve() == (tmp_path.parent / "shared").resolve()


def test_part_and_union_of_folders(tmp_path: Path, toy: Toy) -> None:
    """The digest of a folder that several stages fill is that of the folder as it stands."""
    objects = Objects(tmp_path / "cache")
    for name, text in {"a/x.txt": "1", "a/deep/y.txt": "2", "b.txt": "3"}.items():
        path = tmp_path / "all" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ignored = Ignored(tmp_path)
    whole = objects.add(tmp_path / "all", ignored)
    part, file = objects.add(tmp_path / "all" / "a", ignored), objects.add(tmp_path / "all" / "b.txt", ignored)
    assert objects.union([("a", part), ("b.txt", file)]) == whole
    assert objects.within(whole, "a") == part
    assert objects.within(whole, "a/x.txt") == objects.within(part, "x.txt")
    objects.link(whole, tmp_path / "again")
    assert (tmp_path / "again" / "a" / "deep" / "y.txt").read_text() == "2"
    assert json.loads(objects.path(part).read_bytes())[0]["relpath"] == "deep/y.txt"
