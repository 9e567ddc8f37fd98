"""The files of claims below reports/: JSON, page and Markdown a claim, and the page of all of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from stages.base.contracts.claim import Across, Claim
from stages.base.errors import InputError
from stages.base.files import atomic_path, read_json, write_json
from stages.publishing.claims.markdown import claim_markdown, suite_markdown
from stages.publishing.claims.page import claim_view
from stages.publishing.claims.suite import suite_view
from stages.publishing.html.page import render
from stages.publishing.html.site import SiteParams

REPORTS = Path("reports")
FOLDER = REPORTS / "claims"


def claim_file(name: str) -> Path:
    return FOLDER / f"{name}.json"


def read_claim(name: str) -> Claim:
    """Raises InputError naming the file and the remedy."""
    path = claim_file(name)
    try:
        return Claim.model_validate(read_json(path))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"{path}: `{where}`: {problem['msg']}; write it anew with `trainyard experiment report {name}`"
        ) from None


def write_claim(claim: Claim, site: SiteParams) -> None:
    """reports/claims/<name>.json, .html and .md."""
    write_json(claim_file(claim.name), claim.model_dump(mode="json"))
    view, sections = claim_view(claim)
    bar = _bar(site) | {"root": "../", "sections": sections}
    _write(FOLDER / f"{claim.name}.html", render(view | bar, "claim.html"))
    _write(FOLDER / f"{claim.name}.md", claim_markdown(claim))


def write_suite(
    claims: Sequence[Claim], adjusted: Mapping[str, float], across: Sequence[Across], site: SiteParams
) -> None:
    """reports/claims.html and .md. `adjusted`: claim → Holm's p over all of them; `across`: those at two scales."""
    view, sections = suite_view(claims, adjusted, across)
    _write(REPORTS / "claims.html", render(view | _bar(site) | {"sections": sections}, "claims.html"))
    _write(REPORTS / "claims.md", suite_markdown(claims, adjusted, across))


def _bar(site: SiteParams) -> dict[str, object]:
    pages = site.pages if "claims" in site.pages else [*site.pages, "claims"]
    return {"title": site.title, "page": "claims", "pages": ["index", *pages]}


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
