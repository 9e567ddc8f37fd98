"""Questions over the facts: one a fact, and some that ask for several facts at once."""

import hashlib

import numpy as np
import pyarrow as pa

from stages.base.schemas import QUESTION
from stages.base.seeds import derive
from stages.corpus.atlas import phrasing, prose
from stages.corpus.atlas.params import AtlasParams
from stages.corpus.atlas.world import Entity, World


def answer(entity: Entity, attributes: list[str]) -> str:
    """The reference: the canonical statement of each asked attribute, in the asked order."""
    return " ".join(
        phrasing.ATTRIBUTES[name].statements[0].format(e=entity.name, v=entity.facts[name]) for name in attributes
    )


def several(entity: str, attributes: list[str]) -> str:
    """A prompt that names what is asked, so that a complete answer is defined."""
    nouns = [f"the {phrasing.ATTRIBUTES[name].noun}" for name in attributes]
    return f"Tell me about {entity}: what are {', '.join(nouns[:-1])} and {nouns[-1]}?"


def ask(world: World, params: AtlasParams, seed: int) -> pa.Table:
    """All questions of all splits (schema QUESTION), entities in alphabetical order."""
    rows = []
    for entity in world.entities.values():
        rng = np.random.default_rng(derive(seed, "questions", entity.name))
        names = [attribute.name for attribute in phrasing.KINDS[entity.kind]]
        for name in names:
            prompt = str(rng.choice(phrasing.ATTRIBUTES[name].prompts)).format(e=entity.name)
            rows.append(_row(entity, "single", [name], prompt, params, rng))
        seen: set[tuple[int, ...]] = set()
        for _ in range(params.about_per_entity):
            asked = tuple(sorted(int(i) for i in rng.choice(len(names), size=params.about_attributes, replace=False)))
            if asked in seen:
                continue
            seen.add(asked)
            chosen = [names[i] for i in asked]
            rows.append(_row(entity, "about", chosen, several(entity.name, chosen), params, rng))
    return pa.Table.from_pylist(rows, schema=QUESTION)


def _row(
    entity: Entity, kind: str, attributes: list[str], prompt: str, params: AtlasParams, rng: np.random.Generator
) -> dict:
    filler = str(rng.choice(prose.FILLER)) if rng.random() < params.filler_share else ""
    return {
        "id": hashlib.sha256(f"atlas\x1f{prompt}".encode()).hexdigest()[:16],
        "split": entity.split,
        "entity": entity.name,
        "kind": kind,
        "attributes": attributes,
        "prompt": prompt,
        "reference": answer(entity, attributes),
        "filler": filler,
    }
