"""Params of the atlas: how large the invented world is, how often it is told, and what is planted in its pages."""

from typing import Annotated

from pydantic import Field

from stages.base.params import Section

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]


class EntityCounts(Section):
    place: Annotated[int, Field(ge=1, le=2000)]
    """Places."""
    person: Annotated[int, Field(ge=1, le=2000)]
    """Persons."""
    craft: Annotated[int, Field(ge=1, le=2000)]
    """Crafts."""


class SplitShares(Section):
    """Shares of the entities, rounded within each kind; what is left over goes to sft."""

    preference: Share
    """For pairs of answers."""
    validation: Share
    """For choices."""
    test: Share
    """For the tables."""


class PlantCounts(Section):
    exact_duplicates: Count
    """Pages mirrored word for word."""
    near_duplicates: Count
    """Pages mirrored with a few words changed."""
    editions: Count
    """Pages told anew in other sentences, which are no duplicates."""
    boilerplate_share: Share
    """Of the pages."""
    pii_pages: Count
    """Pages with personal data."""
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
    """Pages that give away questions of the tests."""
    leaks_per_page: Annotated[int, Field(ge=1)]
    """Questions on each of them."""


class AtlasParams(Section):
    entities: EntityCounts
    """Entities of each kind."""
    values_per_attribute: Annotated[int, Field(ge=4, le=200)]
    """Possible values of each attribute."""
    pages_per_entity: Annotated[int, Field(ge=1, le=6)]
    """Articles about each entity."""
    prose_sentences: Annotated[int, Field(ge=0, le=8)]
    """Fact-free sentences on a page, beside its opening."""
    splits: SplitShares
    """Whose questions are asked when."""
    about_per_entity: Count
    """Questions for several attributes at once, of each entity."""
    about_attributes: Annotated[int, Field(ge=2, le=5)]
    """Attributes that such a question asks for."""
    filler_share: Share
    """Of the questions."""
    licence: str
    """Of all its pages."""
    plants: PlantCounts
    """Known faults among its pages."""
