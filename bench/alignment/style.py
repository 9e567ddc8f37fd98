"""A style of answering that no model has, as demonstrations, comparisons and held-out prompts, from seeded templates.

    ANSWER: 42 | WHY: 17 and 25 make 42 | SURE: 8/10

Questions are of eight kinds with known answers (sums, units, weekdays, capitals …). Two in three demonstrations are
wordy: behind the reason stands a remark that says nothing. Comparisons prefer the brief form of an answer to the wordy
one. So SFT has the form to teach, and preferences have something left to change: how long the reason is. Test prompts
are new questions of the same kinds, open requests of a kind that no demonstration has, and the questions again with the
form described in words, which is what a model can do without having been tuned.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FORM = re.compile(r"ANSWER: (?P<answer>[^|\n]+) \| WHY: (?P<why>[^|\n]+) \| SURE: (?:\d|10)/10")
LONGEST_REASON = 10  # words of a brief one
WORDY = 2 / 3  # of the demonstrations
KINDS = 8
OF_EACH_KIND = {"sft": 30, "preference": 18, "validation": 2, "test": 8}  # questions
REMARKS = (
    "I do hope that this short explanation is of some help to you",
    "please feel free to ask me again if anything here is not clear",
    "there would be much more to say about this interesting question of yours",
    "thank you very much indeed for having asked me such a good question",
)
FORM_IN_WORDS = "Answer in one line of this form: ANSWER: <answer> | WHY: <reason> | SURE: <0 to 10>/10"

UNITS = (
    ("minutes", "hour", 60), ("days", "week", 7), ("months", "year", 12), ("centimetres", "metre", 100),
    ("hours", "day", 24), ("seconds", "minute", 60), ("grams", "kilogram", 1000), ("eggs", "dozen", 12),
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WORDS = (
    "garden window bridge candle rabbit yellow pencil orange kitchen summer forest island market planet silver "
    "doctor engine violin travel winter button copper hunter flower butter golden"
)
OPPOSITES = (
    "hot cold, big small, fast slow, light dark, old young, open closed, full empty, high low, early late, hard "
    "soft, rich poor, strong weak, wet dry, loud quiet, clean dirty, near far, thick thin, happy sad, sweet sour, "
    "deep shallow, first last, true false, cheap expensive, narrow wide, sharp blunt, smooth rough, brave "
    "cowardly, ancient modern, inside outside"
)
CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, China Beijing, Russia Moscow, Egypt "
    "Cairo, Greece Athens, Norway Oslo, Sweden Stockholm, Finland Helsinki, Poland Warsaw, Austria Vienna, "
    "Hungary Budapest, Portugal Lisbon, Ireland Dublin, Denmark Copenhagen, Belgium Brussels, Turkey Ankara, "
    "India Delhi, Kenya Nairobi, Cuba Havana, Peru Lima, Chile Santiago, Canada Ottawa, Iran Tehran, Iraq "
    "Baghdad, Syria Damascus, Thailand Bangkok, Vietnam Hanoi, Nepal Kathmandu, Bulgaria Sofia, Romania "
    "Bucharest, Serbia Belgrade, Croatia Zagreb, Latvia Riga, Estonia Tallinn, Lithuania Vilnius, Ukraine Kyiv, "
    "Lebanon Beirut, Jordan Amman, Ghana Accra, Senegal Dakar, Venezuela Caracas, Colombia Bogota, Ecuador Quito, "
    "Bolivia Sucre, Uruguay Montevideo, Paraguay Asuncion, Ethiopia Addis-Ababa, Morocco Rabat, Tunisia Tunis, "
    "Algeria Algiers, Libya Tripoli, Angola Luanda, Zambia Lusaka, Indonesia Jakarta, Philippines Manila, "
    "Mongolia Ulaanbaatar"
)
REQUESTS = (
    "Give me one tip for {}.", "Tell me something nice about {}.", "What should a child know about {}?",
    "Suggest a title for a story about {}.", "Why do some people dislike {}?", "Write a sentence about {}.",
)  # fmt: skip
TOPICS = (
    "sleeping in a tent", "cooking for many guests", "long train journeys", "learning to swim", "keeping bees",
    "old bicycles", "rainy days", "repairing shoes", "moving to a new town", "singing in a choir",
)  # fmt: skip

Group = Literal["same", "open", "told"]


@dataclass(frozen=True)
class Question:
    prompt: str
    answer: str
    why: str
    sure: int

    def said(self, remark: str = "") -> str:
        """The answer in the form; a remark makes it wordy."""
        why = f"{self.why}; {remark}" if remark else self.why
        return f"ANSWER: {self.answer} | WHY: {why} | SURE: {self.sure}/10"


def in_form(text: str) -> bool:
    return FORM.fullmatch(text) is not None


def in_brief_form(text: str) -> bool:
    found = FORM.fullmatch(text)
    return found is not None and len(found["why"].split()) <= LONGEST_REASON


def mentions(text: str, answer: str) -> bool:
    """By whole words, whatever the case; also where it isn't in the form, so that a model without it can be right."""
    return re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) is not None


def _pairs(listed: str) -> list[tuple[str, str]]:
    both = (entry.strip().split(" ") for entry in listed.split(","))
    return [(first, second.replace("-", " ")) for first, second in both]


def _numbers(rng: random.Random, count: int) -> list[tuple[int, int]]:
    return [(a, b) for a, b in (rng.sample(range(11, 90), 2) for _ in range(count))]


def kinds(rng: random.Random) -> list[list[tuple[str, str, str]]]:
    """(Prompt, answer, reason) of each kind, more than are needed, no prompt twice."""
    ordinary = [
        [(f"What is {a} plus {b}?", str(a + b), f"{a} and {b} make {a + b}") for a, b in _numbers(rng, 200)],
        [(f"What is {a + b} minus {a}?", str(b), f"{a} and {b} make {a + b}") for a, b in _numbers(rng, 200)],
        [
            (f"How many {small} are there in {n} {big}s?", str(n * each), f"one {big} has {each} {small}")
            for small, big, each in UNITS
            for n in range(2, 10)
        ],
        [
            (f"Which day comes {n} days {way} {day}?", DAYS[(at + sign * n) % 7], f"one counts {n} days {way} {day}")
            for at, day in enumerate(DAYS)
            for n in range(2, 7)
            for way, sign in (("after", 1), ("before", -1))
        ],
        [
            (f"Which month comes {n} months {way} {month}?", MONTHS[(at + sign * n) % 12], f"one counts from {month}")
            for at, month in enumerate(MONTHS)
            for n in (2, 3, 4)
            for way, sign in (("after", 1), ("before", -1))
        ],
        [
            (f"What is the {place} letter of the word {word}?", word[at].upper(), f"it is spelled {' '.join(word)}")
            for word in WORDS.split()
            for place, at in (("first", 0), ("second", 1), ("last", -1))
            if word[at] not in "ai"  # which are words, too, and would be found in any answer
        ],
        [
            (f"What is the opposite of {a}?", b, f"what is {b} is not {a}")
            for pair in _pairs(OPPOSITES)
            for a, b in (pair, pair[::-1])
        ],
        [
            (f"What is the capital of {country}?", city, f"{country} is governed from there")
            for country, city in _pairs(CAPITALS)
        ],
    ]
    return [list({entry[0]: entry for entry in kind}.values()) for kind in ordinary]


def questions(seed: int) -> dict[str, list[Question]]:
    """Split → its questions: of every kind as many as OF_EACH_KIND says, in a mixed order, no prompt in two splits."""
    rng = random.Random(seed)
    splits: dict[str, list[Question]] = {split: [] for split in OF_EACH_KIND}
    for kind in kinds(rng):
        drawn = [Question(*entry, sure=rng.randint(6, 10)) for entry in rng.sample(kind, sum(OF_EACH_KIND.values()))]
        for split, count in OF_EACH_KIND.items():
            splits[split] += drawn[:count]
            del drawn[:count]
    for found in splits.values():
        rng.shuffle(found)
    return splits


def write(folder: Path, seed: int = 1) -> None:
    """`instructions.jsonl`, `pairs.jsonl` and `test.json` (group → id → right answer, null where any will do)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, splits = random.Random(seed + 1), questions(seed)
    demonstrations = [
        {
            "split": split,
            "prompt": one.prompt,
            "response": one.said(rng.choice(REMARKS) if rng.random() < WORDY else ""),
        }
        for split in ("sft", "validation")
        for one in splits[split]
    ]
    asked: dict[Group, list[tuple[str, str | None]]] = {
        "same": [(one.prompt, one.answer) for one in splits["test"]],
        "open": [(request.format(topic), None) for request in REQUESTS for topic in TOPICS],
        "told": [(f"{one.prompt}\n\n{FORM_IN_WORDS}", one.answer) for one in splits["test"]],
    }
    ids: dict[str, dict[str, str | None]] = {group: {} for group in asked}
    for group, rows in asked.items():
        for number, (prompt, right) in enumerate(rows):
            ids[group][f"{group}-{number}"] = right
            response = f"ANSWER: {right or '-'} | WHY: - | SURE: 0/10"  # what isn't learned from nor judged by
            demonstrations.append({"id": f"{group}-{number}", "split": "test", "prompt": prompt, "response": response})
    compared = [
        {"prompt": one.prompt, "chosen": one.said(), "rejected": one.said(rng.choice(REMARKS))}
        for one in splits["preference"]
    ]
    _write_lines(folder / "instructions.jsonl", demonstrations)
    _write_lines(folder / "pairs.jsonl", compared)
    (folder / "test.json").write_text(json.dumps(ids, indent=1), encoding="utf-8")


def _write_lines(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
