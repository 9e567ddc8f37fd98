"""Params of the atlas: how large the invented world is, how often it is told, and what is planted in its pages."""

from typing import Annotated

from pydantic import Field

from stages.base.params import Section

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class EntityCounts(Section):
    place: Annotated[int, Field(ge=1, le=2000)]
    person: Annotated[int, Field(ge=1, le=2000)]
    craft: Annotated[int, Field(ge=1, le=2000)]


class SplitShares(Section):
    """Shares of the entities, rounded within each kind; what is left over goes to sft."""

    preference: Share
    validation: Share
    test: Share


class PlantCounts(Section):
    exact_duplicates: Count
    near_duplicates: Count
    editions: Count
    boilerplate_share: Share
    """Of the pages."""
    pii_pages: Count
    spam_pages: Count
    """Full of the terms that the keyword rule counts."""
    evasive_spam_pages: Count
    """Without any of them."""
    spam_blocked_share: Share
    """Of both kinds of spam, on addresses that the default block list names."""
    contact_pages: Count
    """Personal data in many spellings."""
    opt_out_pages: Count
    """Good pages mirrored by owners who reserve them: meta element, header, robots.txt in turn."""
    licence_pages: Count
    """Good pages mirrored under a licence that isn't free."""
    quiz_leak_pages: Count
    leaks_per_page: Annotated[int, Field(ge=1)]


class AtlasParams(Section):
    entities: EntityCounts
    values_per_attribute: Annotated[int, Field(ge=4, le=200)]
    pages_per_entity: Annotated[int, Field(ge=1, le=6)]
    prose_sentences: Annotated[int, Field(ge=0, le=8)]
    """Fact-free sentences on a page, beside its opening."""
    splits: SplitShares
    about_per_entity: Count
    about_attributes: Annotated[int, Field(ge=2, le=5)]
    filler_share: Share
    """Of the questions."""
    licence: str
    plants: PlantCounts
