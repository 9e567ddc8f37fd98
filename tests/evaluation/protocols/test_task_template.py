import numpy as np
import pytest

from stages.evaluation.protocols.protocol import Setting
from stages.evaluation.protocols.task import TASK
from stages.evaluation.protocols.variants import variants
from stages.evaluation.scoring.requests import Choices, Generate, Generated, Likelihood
from stages.evaluation.tasks.item import Item

CHOICE = (("output_type", "multiple_choice"),)
MEASURES = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "brier_score", "mc2")
ITEM = Item("q", "s", "s", "test", "Where?", "Where is it?", ("by the sea", "inland", "am Meer"), 0)
STRICT = ("strict", (("regex", {"regex_pattern": r"#### (\d+)"}), ("take_first", {})))
FLEXIBLE = ("flexible", (("regex", {"regex_pattern": r"(\d+)", "group_select": -1}),))


def test_examples_stand_as_the_file_says() -> None:
    setting = Setting("About places.\n", ": ", "\n--\n", options=(*CHOICE, ("shots_target_delimiter", " = ")))
    shot = Item("e", "s", "s", "development", "Who?", "Who is it?", ("I", "you"), 1)
    unanswered = Item("f", "s", "s", "development", "?", "Just a text. ", targets=("",))
    assert TASK.render(ITEM, [shot, unanswered], setting) == Choices(
        ("About places.\nWho is it? = you\n--\nJust a text. Where is it?",), (": by the sea", ": inland", ": am Meer")
    )


def test_labels_are_scored_in_place_of_the_choices() -> None:
    item = Item("q", "s", "s", "test", "Where?", "Where?\nA. here\nB. there", ("here", "there"), 1, labels=("A", "B"))
    request = TASK.render(item, [item], Setting(options=CHOICE))
    assert request == Choices((f"{item.prompt} B\n\n{item.prompt}",), (" A", " B"))


def test_description_of_the_item_goes_first_and_a_variant_replaces_it() -> None:
    item = Item("q", "s", "s", "test", "", "Where?", ("a", "b"), 0, description="On rivers. ")
    setting = Setting("On anything. ", options=CHOICE)
    contexts = {name: one.render(item, [], setting).contexts[0] for name, one in variants(TASK).items()}
    assert contexts[""] == "On rivers. Where?" and contexts["bare"] == "Where?"
    assert contexts["careful"].endswith("\n\nWhere?")


def test_a_choice_among_contexts() -> None:
    contexts = ("At sea", "On land")
    item = Item("q", "s", "s", "test", "", contexts[1], contexts, 1, ("it floats",), contexts)
    assert TASK.render(item, [item], Setting("So: ", options=CHOICE)) == Choices(
        ("So: On land it floats\n\nAt sea", "So: On land it floats\n\nOn land"), (" it floats", " it floats")
    )


def test_every_measure_of_a_choice() -> None:
    setting = Setting(metrics=MEASURES, options=CHOICE)
    request = TASK.render(ITEM, [], setting)
    assert isinstance(request, Choices)
    assert (
        request.contexts == ("Where is it?",) * 3 + ("",) * 3 and request.continuations[:3] == request.continuations[3:]
    )
    nats, alone = np.array([-4.0, -2.7, -3.0]), np.array([-9.0, -2.0, -3.0])
    found = [Likelihood(value, 2, place == 1) for place, value in enumerate([*nats, *alone])]
    answer = TASK.read(ITEM, setting, found)
    shares = np.exp(nats) / np.exp(nats).sum()
    assert answer.choice == 1 and answer.choice_norm == 0  # −4 / 10 > −3 / 7 > −2.7 / 6
    assert answer.scores == pytest.approx(
        {
            "acc": 0.0,
            "acc_norm": 1.0,
            "acc_bytes": 1.0,
            "acc_mutual_info": 1.0,  # 5 nats more than without the question
            "exact_match": 0.0,
            "brier_score": ((shares - [1, 0, 0]) ** 2).sum(),
            "mc2": shares[0],
        }
    )


def test_of_several_right_choices_any_will_do() -> None:
    item = Item("q", "s", "s", "test", "", "Where?", ("a", "b", "c"), 0, ("a", "c"))
    setting = Setting(metrics=("acc", "mc2"), options=CHOICE)
    answer = TASK.read(item, setting, [Likelihood(value, 1, False) for value in (-3.0, -2.0, -1.0)])
    shares = np.exp([-3.0, -2.0, -1.0]) / np.exp([-3.0, -2.0, -1.0]).sum()
    assert answer.scores == pytest.approx({"acc": 1.0, "mc2": shares[0] + shares[2]})


def test_one_continuation() -> None:
    item = Item("q", "s", "s", "test", "", "The sea is", targets=(" blue",))
    setting = Setting(metrics=("perplexity", "acc"), options=(("output_type", "loglikelihood"),))
    assert TASK.render(item, [], setting) == Choices(("The sea is",), (" blue",))  # no delimiter, as lm-eval
    answer = TASK.read(item, setting, [Likelihood(-1.5, 1, True)])
    assert answer.scores == {"perplexity": -1.5, "acc": 1.0}


@pytest.mark.parametrize(
    "text, strict, flexible, flags",
    [("so #### 12", 1, 1, ()), ("12 it is", 0, 1, ()), ("#### 12 or 13", 1, 0, ()), ("none", 0, 0, ("no_answer",))],
)
def test_a_generated_answer_through_each_filter(text, strict, flexible, flags) -> None:
    metrics = (("exact_match", {"regexes_to_ignore": ["(?s).*#### "]}),)
    options = (("output_type", "generate_until"), ("metrics", metrics), ("filters", (STRICT, FLEXIBLE)))
    setting = Setting(stop=("Question:",), max_tokens=9, options=options)
    item = Item("q", "s", "s", "test", "", "Question: how many?", targets=("a dozen\n#### 12", "12"))
    assert TASK.render(item, [], setting) == Generate("Question: how many?", ("Question:",), 9)
    answer = TASK.read(item, setting, Generated(text, 3, True))
    assert answer.scores == {"exact_match,strict": strict, "exact_match,flexible": flexible}
    assert (answer.text, answer.flags) == (text, flags)
