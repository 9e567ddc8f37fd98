"""Verdicts on the base model, for the models that stand on it and for those of others."""

from stages.base.contracts.contamination import TaskVerdict
from stages.publishing.evaluation.verdicts import for_all_models


def test_models_of_others_are_unknown_and_so_is_what_was_tuned_from_them() -> None:
    own = [TaskVerdict(model="base", task="t", verdict="clean", reason="none of 20 items")]
    models = ["base", "sft", "theirs"]
    told = {row.model: row for row in for_all_models(own, models, ["theirs"], "base")}
    assert [told[key].verdict for key in models] == ["clean", "clean", "unknown"]
    told = {row.model: row for row in for_all_models(own, models, ["theirs"], "theirs")}
    assert [told[key].verdict for key in models] == ["clean", "unknown", "unknown"]
    assert "theirs" in told["sft"].reason
