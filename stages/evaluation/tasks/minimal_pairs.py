"""Pairs of sentences that differ in one thing, of which one is English and sense: made from frames of our own.

A model that gives the right one the higher probability knows what differs; no instruction and no answer format stands
between (the method of BLiMP, Warstadt et al. 2020; sentences and frames are not theirs). `syntax`: the other one is no
English. `sense`: the other one is English, and says what doesn't happen ("the cheese ate the mouse").
"""

import hashlib
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from stages.base.errors import InputError
from stages.base.seeds import derive


class Frame(NamedTuple):
    """Two sentences over the same slots. A slot's values are parted by `;`, a value's forms by `/`: `{noun[0]}`."""

    good: str
    bad: str
    slots: dict[str, str]  # pairs with the same value of the first one are a cluster


PEOPLE = "teacher/teachers; farmer/farmers; doctor/doctors; singer/singers; sailor/sailors; baker/bakers; pilot/pilots"
THINGS = "key/keys; letter/letters; bottle/bottles; chair/chairs; ticket/tickets; basket/baskets; lamp/lamps"
PLACES = "cabinet/cabinets; garden/gardens; kitchen/kitchens; tower/towers; office/offices; station/stations"
NAMES = "Anna/she; Peter/he; Maria/she; John/he; Laura/she; Thomas/he"
VERBS = "sleeps/sleep; works/work; sings/sing; waits/wait; runs/run; laughs/laugh"
STATES = "is old/are old; was lost/were lost; looks new/look new"
BOUGHT = "bought; found; sold; painted; lost"
BLAMED = "hurt; blamed; admired; defended; introduced; described"
MADE = "made; sold; broke; found; wanted; carried"
TIMES = "every morning; at night; on Sundays; in the summer; after lunch"
SAID = "It is true that; Everybody knows that; Children learn that; They say that; She told me that"
PARTICIPLES = "eaten/eat; written/write; broken/break; taken/took; seen/saw; given/gave; chosen/choose"
INFINITIVES = "eat/eaten; write/wrote; break/broken; take/took; see/seen; give/gave; choose/chosen"

SYNTAX = {
    "verb_agreement": [
        Frame("The {n[0]} {v[0]} {t[0]}.", "The {n[0]} {v[1]} {t[0]}.", {"n": PEOPLE, "v": VERBS, "t": TIMES}),
        Frame("The {n[1]} {v[1]} {t[0]}.", "The {n[1]} {v[0]} {t[0]}.", {"n": PEOPLE, "v": VERBS, "t": TIMES}),
    ],
    "agreement_at_a_distance": [
        Frame(
            "The {n[0]} in the {p[1]} {v[0]}.",
            "The {n[0]} in the {p[1]} {v[1]}.",
            {"n": THINGS, "p": PLACES, "v": STATES},
        ),
        Frame(
            "The {n[1]} in the {p[0]} {v[1]}.",
            "The {n[1]} in the {p[0]} {v[0]}.",
            {"n": THINGS, "p": PLACES, "v": STATES},
        ),
    ],
    "determiner_agreement": [
        Frame(
            "{w[0]} {v[0]} this {n[0]}.",
            "{w[0]} {v[0]} this {n[1]}.",
            {"n": THINGS, "w": NAMES, "v": BOUGHT},
        ),
        Frame(
            "{w[0]} {v[0]} those {n[1]}.",
            "{w[0]} {v[0]} those {n[0]}.",
            {"n": THINGS, "w": NAMES, "v": BOUGHT},
        ),
    ],
    "reflexives": [
        Frame(
            "The {n[0]} {v[0]} themselves.",
            "The {n[0]} {v[0]} {n[1]}.",
            {"n": "boys/himself; girls/herself; kings/himself; queens/herself; guests/himself", "v": BLAMED},
        ),
        Frame(
            "The {n[0]} {v[0]} {n[1]}.",
            "The {n[0]} {v[0]} {n[2]}.",
            {
                "n": "boy/himself/herself; girl/herself/himself; king/himself/herself; queen/herself/himself; "
                "father/himself/herself; mother/herself/himself",
                "v": BLAMED,
            },
        ),
    ],
    "negative_polarity": [
        Frame(
            "{q[0]} has ever {v[0]} the {o[0]}.",
            "{q[1]} has ever {v[0]} the {o[0]}.",
            {
                "q": "Nobody/Somebody; No student/Some student; No visitor/This visitor; Neither boy/That boy; "
                "Not one soldier/One soldier",
                "v": "seen; visited; painted; described; entered",
                "o": "castle; island; harbour; palace; valley",
            },
        )
    ],
    "verb_forms": [
        Frame(
            "The {n[0]} has {v[0]} {o[0]}.",
            "The {n[0]} has {v[1]} {o[0]}.",
            {"v": PARTICIPLES, "n": PEOPLE, "o": "it; them; nothing"},
        ),
        Frame(
            "The {n[1]} will {v[0]} {o[0]}.",
            "The {n[1]} will {v[1]} {o[0]}.",
            {"v": INFINITIVES, "n": PEOPLE, "o": "it; them; nothing"},
        ),
    ],
    "argument_structure": [
        Frame(
            "The {n[0]} {v[0]} {t[0]}.",
            "The {n[0]} {v[0]} the {o[0]} {t[0]}.",
            {
                "v": "slept; arrived; laughed; vanished; sneezed; smiled; died; fainted",
                "n": PEOPLE,
                "o": "table; letter; bread",
                "t": "yesterday; last week",
            },
        )
    ],
    "questions_and_gaps": [
        Frame(
            "I know what the {n[0]} {v[0]}.",
            "I know what the {n[0]} {v[0]} the {o[0]}.",
            {"v": MADE, "n": PEOPLE, "o": "cake; box; picture"},
        ),
        Frame(
            "I know that the {n[0]} {v[0]} the {o[0]}.",
            "I know what the {n[0]} {v[0]} the {o[0]}.",
            {"v": MADE, "n": PEOPLE, "o": "cake; box; picture"},
        ),
    ],
    "word_order": [
        Frame(
            "The {a[0]} {n[0]} opened the {o[0]}.",
            "The {n[0]} {a[0]} opened the {o[0]}.",
            {"a": "old; young; tall; tired; happy; careful; clever", "n": PEOPLE, "o": "door; window; box"},
        ),
        Frame(
            "The {n[0]} closed the {a[0]} {o[0]}.",
            "The {n[0]} the {a[0]} {o[0]} closed.",
            {"a": "red; heavy; wooden; broken; small", "n": PEOPLE, "o": "door; window; box"},
        ),
    ],
    "pronoun_case": [
        Frame(
            "{s[0]} {v[0]} the {n[0]} {t[0]}.",
            "{s[1]} {v[0]} the {n[0]} {t[0]}.",
            {
                "s": "He/Him; She/Her; They/Them; We/Us; I/Me",
                "n": PEOPLE,
                "v": "met; helped; called; followed",
                "t": "yesterday; last week",
            },
        )
    ],
}
SENSE = {
    "who_does_what": [
        Frame(
            "{t[0]} the {p[0]} {p[1]} the {p[2]}.",
            "{t[0]} the {p[2]} {p[1]} the {p[0]}.",
            {
                "p": "mouse/ate/cheese; dog/buried/bone; girl/read/book; cook/boiled/egg; carpenter/built/table; "
                "horse/pulled/cart; boy/kicked/ball; cow/ate/grass; farmer/ploughed/field; tailor/sewed/coat; "
                "driver/parked/car; child/drank/milk; artist/painted/wall; bird/built/nest",
                "t": "Yesterday; In the morning; Before noon; Once more; In the end",
            },
        )
    ],
    "what_is_done_to_what": [
        Frame(
            "{w[0]} {p[0]} the {p[1]} {t[0]}.",
            "{w[0]} {p[0]} the {p[2]} {t[0]}.",
            {
                "p": "drank/milk/brick; read/letter/spoon; peeled/orange/window; locked/door/cloud; fried/egg/street; "
                "baked/bread/river; lit/candle/rain; wore/coat/lake; sharpened/knife/soup; milked/cow/chair",
                "w": NAMES,
                "t": "this morning; last night",
            },
        )
    ],
    "what_fits_in_what": [
        Frame(
            "The {p[0]} {v[0]} inside the {p[1]}.",
            "The {p[1]} {v[0]} inside the {p[0]}.",
            {
                "p": "coin/pocket; letter/envelope; egg/basket; shirt/suitcase; pencil/drawer; baby/cradle; "
                "fish/bucket; car/garage; plane/hangar; tooth/mouth; seed/apple; bee/hive",
                "v": "is; was; lay; fits; was hidden",
            },
        )
    ],
    "order_of_events": [
        Frame(
            "{w[0]} {p[0]} the {p[1]} before {w[1]} {p[2]} it.",
            "{w[0]} {p[2]} the {p[1]} before {w[1]} {p[0]} it.",
            {
                "p": "peeled/orange/ate; opened/book/read; cooked/rice/ate; bought/ticket/used; washed/shirt/ironed; "
                "opened/bottle/emptied; caught/fish/cleaned; filled/glass/emptied; wrote/letter/posted; "
                "unlocked/door/opened",
                "w": NAMES,
            },
        )
    ],
    "kinds": [
        Frame(
            "{s[0]} a {p[0]} is a kind of {p[1]}.",
            "{s[0]} a {p[1]} is a kind of {p[0]}.",
            {
                "p": "sparrow/bird; salmon/fish; rose/flower; hammer/tool; cobra/snake; pine/tree; carrot/vegetable; "
                "diamond/stone; taxi/car; banana/fruit; boot/shoe; waltz/dance",
                "s": SAID,
            },
        )
    ],
    "with_what": [
        Frame(
            "{w[0]} {p[0]} with {p[1]}.",
            "{w[0]} {p[0]} with {p[2]}.",
            {
                "p": "cut the bread/a knife/a pillow; swept the floor/a broom/a candle; "
                "wrote the letter/a pen/a bucket; dug a hole/a spade/a feather; ate the soup/a spoon/a rope; "
                "opened the door/a key/a cup; painted the wall/a brush/a shoe; hit the nail/a hammer/a blanket; "
                "dried the plates/a towel/a lamp; cut the paper/scissors/butter",
                "w": NAMES,
            },
        )
    ],
    "properties": [
        Frame(
            "{s[0]} {p[0]} {p[1]}.",
            "{s[0]} {p[0]} {p[2]}.",
            {
                "p": "snow is/cold/hot; fire is/hot/cold; honey is/sweet/sour; a lemon is/sour/salty; "
                "a stone is/hard/soft; a feather is/light/heavy; the night is/dark/bright; ice is/cold/hot; "
                "a pillow is/soft/hard; a giant is/tall/short; sea water is/salty/sweet; a razor is/sharp/blunt",
                "s": SAID,
            },
        )
    ],
    "who_is_where": [
        Frame(
            "{s[0]} a {p[0]} {p[1]}.",
            "{s[0]} a {p[0]} {p[2]}.",
            {
                "p": "whale swims/in the sea/in the desert; camel walks/through the desert/through the clouds; "
                "train runs/on rails/on water; ship sails/on the sea/on rails; plane flies/in the sky/in the ground; "
                "worm lives/in the ground/in the sky; frog sits/by the pond/in the fire; "
                "priest prays/in the church/in the oven; shark hunts/in the sea/in the forest; "
                "wolf hunts/in the forest/in the lamp; baker works/in the bakery/in the river; "
                "nurse works/in the hospital/in the chimney",
                "s": SAID,
            },
        )
    ],
}
PHENOMENA = {"syntax": SYNTAX, "sense": SENSE}


def documents(seed: int = 1, pairs: int = 60) -> Iterator[dict[str, Any]]:
    """`pairs` of each phenomenon: sentence_good, sentence_bad, choices (both, in an order that the seed gives), answer
    (index), field, phenomenon, cluster (frame and the value of its first slot), id.

    Raises InputError where the frames of a phenomenon give fewer.
    """
    for field, phenomena in PHENOMENA.items():
        for phenomenon, frames in phenomena.items():
            made = [pair for number, frame in enumerate(frames) for pair in _pairs(frame, f"{phenomenon}/{number}")]
            if len(made) < pairs:
                raise InputError(f"minimal_pairs: `{phenomenon}` has {len(made)} pairs; ask for no more")
            rng = np.random.default_rng(derive(seed, "minimal_pairs", phenomenon))
            for place in sorted(rng.choice(len(made), size=pairs, replace=False).tolist()):
                good, bad, cluster = made[place]
                answer = int(rng.integers(2))
                yield {
                    "id": hashlib.sha256(f"{good}\x1f{bad}".encode()).hexdigest()[:16],
                    "field": field,
                    "phenomenon": phenomenon,
                    "cluster": cluster,
                    "sentence_good": good,
                    "sentence_bad": bad,
                    "choices": [bad, good] if answer else [good, bad],
                    "answer": answer,
                }


def _pairs(frame: Frame, name: str) -> Iterator[tuple[str, str, str]]:
    """(good, bad, cluster) of every combination of values."""
    values = [[value.strip().split("/") for value in listed.split(";")] for listed in frame.slots.values()]
    for chosen in product(*values):
        slots = dict(zip(frame.slots, chosen, strict=True))
        yield frame.good.format(**slots), frame.bad.format(**slots), f"{name}/{chosen[0][0]}"
