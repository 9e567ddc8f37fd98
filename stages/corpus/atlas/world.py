"""The invented world: entities, their facts and their split, all drawn from one seed."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from rapidfuzz.distance import Levenshtein

from stages.base.seeds import derive
from stages.corpus.atlas import phrasing, prose
from stages.corpus.atlas.params import AtlasParams

ONSETS = ("b", "br", "c", "d", "dr", "f", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "qu", "r", "s", "sh", "t", "tr",
          "v", "w", "z")  # fmt: skip
VOWELS = ("a", "e", "i", "o", "u")
MIDDLES = ("", "l", "n", "r")
ENDINGS = ("", "l", "n", "r", "s", "th", "x", "ck")
MIN_DISTANCE = 2  # edits between any two invented words, so that a typing slip is never another entity


@dataclass(frozen=True)
class Entity:
    name: str
    kind: str
    split: str
    facts: dict[str, str]


@dataclass(frozen=True)
class World:
    attributes: dict[str, tuple[str, ...]]
    entities: dict[str, Entity]

    def truth(self) -> dict:
        """The contract of `truth.json` (docs/architecture.md)."""
        return {
            "attributes": {name: list(values) for name, values in self.attributes.items()},
            "entities": {
                name: {"kind": entity.kind, "split": entity.split, "facts": dict(entity.facts)}
                for name, entity in self.entities.items()
            },
        }


def build(params: AtlasParams, seed: int) -> World:
    """Draw the world. Names and values are single distinct words that no template contains."""
    plain = {word for attribute in phrasing.ATTRIBUTES.values() for word in attribute.plain}
    coin = _coiner(np.random.default_rng(derive(seed, "words")), template_words() | plain)
    attributes: dict[str, tuple[str, ...]] = {}
    for name, attribute in phrasing.ATTRIBUTES.items():
        rng = np.random.default_rng(derive(seed, "values", name))
        chosen = [str(word) for word in rng.permutation(attribute.plain)[: params.values_per_attribute]]
        chosen += [coin() for _ in range(params.values_per_attribute - len(chosen))]
        attributes[name] = tuple(sorted(chosen))
    entities: dict[str, Entity] = {}
    for kind, count in params.entities.model_dump().items():
        rng = np.random.default_rng(derive(seed, "entities", kind))
        splits = _splits(count, params, rng)
        for index in range(count):
            facts = {a.name: str(rng.choice(attributes[a.name])) for a in phrasing.KINDS[kind]}
            name = coin()
            entities[name] = Entity(name, kind, splits[index], facts)
    return World(attributes, dict(sorted(entities.items())))


@cache
def template_words() -> frozenset[str]:
    """Every word that a page or a question can contain beside names and values."""
    said = [*prose.ADJECTIVES, *prose.PEOPLE, *prose.THINGS, *prose.LINKS, *prose.BOILERPLATE, *prose.FILLER]
    said += [*prose.INDEX_PROSE, *prose.SPAM_OPENINGS, *prose.SPAM_SENTENCES]
    said += [*prose.EVASIVE_BLOCKED, *prose.EVASIVE_INNOCENT, prose.CONTACTS]
    for style in prose.STYLES:
        said += [style.name, style.title, *style.openings]
    for attribute in phrasing.ATTRIBUTES.values():
        said += [attribute.noun, *attribute.statements, *attribute.prompts]
    return frozenset(prose.words(tuple(said)))


def _splits(count: int, params: AtlasParams, rng: np.random.Generator) -> list[str]:
    sizes = {name: round(count * share) for name, share in params.splits.model_dump().items()}
    names = [name for name, size in sizes.items() for _ in range(size)][:count]
    names += ["sft"] * (count - len(names))
    return [str(name) for name in rng.permutation(names)]


def _coiner(rng: np.random.Generator, taken: set[str] | frozenset[str]):
    """A function that coins one new word a call, at least MIN_DISTANCE edits from every other word."""
    used = set(taken)

    def coin() -> str:
        while True:
            parts = [rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(MIDDLES)]
            if rng.random() < 0.3:
                parts.append(rng.choice(ONSETS) + rng.choice(VOWELS))
            parts.append(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(ENDINGS))
            word = "".join(str(part) for part in parts)
            if len(word) < 5 or any(
                Levenshtein.distance(word, other, score_cutoff=MIN_DISTANCE) < MIN_DISTANCE for other in used
            ):
                continue
            used.add(word)
            return word.capitalize()

    return coin
