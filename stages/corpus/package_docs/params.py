"""Params of package_docs: whose documentation is read, and how much of it."""

from typing import Annotated

from pydantic import Field

from stages.base.params import Section


class PackageDocsParams(Section):
    packages: Annotated[list[str], Field(min_length=1)]  # distribution names; `stdlib` is Python's own library
    max_pages: Annotated[int, Field(ge=1)]
    min_chars: Annotated[int, Field(ge=1)]  # pages whose docstrings are shorter are not written
    max_chars: Annotated[int, Field(ge=500)]  # of docstrings on a page; larger modules are spread over several pages
    max_unparsable: Annotated[float, Field(ge=0, le=1)]  # share of files that may fail to parse


PARAMS = {"corpus.package_docs": PackageDocsParams}
