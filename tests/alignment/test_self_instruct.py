"""Self-Instruct with a scripted writer: what is kept, what is dropped and why, and that nothing kept is no failure."""

from collections import Counter

from stages.alignment.self_instruct import SelfInstructParams, few_shot, parse, propose, to_rows

SEEDS = [(f"Where does {name} lie?", f"{name} lies in Anthar.") for name in ("Ost", "Velm", "Grond", "Bris")]
PARAMS = SelfInstructParams(
    candidates=7, rounds=2, seed_shots=3, machine_shots=1, temperature=0.7, top_p=0.95, max_new_tokens=16, overlap=0.7,
    min_words=2, max_words=12,
)  # fmt: skip


def test_a_continuation_is_parsed_with_or_without_line_breaks() -> None:
    expected = ("Which craft has Ost?", "Pottery.")
    assert parse(" Which craft has Ost?\nAnswer: Pottery.\n\nQuestion: Next") == expected
    assert parse(" Which craft has Ost? Answer: Pottery. Question: Next Answer: More") == expected
    assert parse(" Which craft\n has Ost?\n\nQuestion: What? Answer: That.") == ("Which craft has Ost?", "")
    assert parse("") == ("", "")
    assert parse(few_shot(SEEDS[:1]).removeprefix("Question:")) == SEEDS[0]


def test_candidates_are_kept_or_dropped_with_a_reason() -> None:
    shown: list[list[tuple[str, str]]] = []

    def write(groups: list[list[tuple[str, str]]], turn: int) -> list[str]:
        shown.extend(groups)
        script = [
            [
                " Name the teacher of Ost. Answer: Codron.",
                " Where does Ost lie? Answer: Anthar.",
                "",
                " - x y Answer: z",
            ],
            [
                " Name the teacher of Ost. Answer: Codron.",
                " Who lives there now",
                " Explain how bread is made. Answer: So.",
            ],
        ]
        return script[turn]

    kept, drops = propose(SEEDS, write, PARAMS, seed=3)
    assert kept == [("Name the teacher of Ost.", "Codron."), ("Explain how bread is made.", "So.")]
    reasons = Counter(row["reason"] for row in drops)
    assert reasons == {"similar": 2, "empty": 1, "punctuation_start": 1, "no_answer": 1}
    assert len(shown) == 7 and all(len(group) == 3 for group in shown[:4])
    assert all(kept[0] in group and len(group) == 4 for group in shown[4:])
    assert [row.prompt for row in to_rows(kept)] == [prompt for prompt, _ in kept]


def test_nothing_kept_is_an_empty_table() -> None:
    kept, drops = propose(SEEDS, lambda groups, turn: [""] * len(groups), PARAMS, seed=3)
    assert kept == [] and len(drops) == 7
    assert to_rows(kept) == []
