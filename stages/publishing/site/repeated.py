"""What many pages repeat, once in the published folder: the stylesheet of all pages, and the numbers of all claims."""

import json
import lzma
import re
from collections.abc import Mapping
from pathlib import Path

from stages.base.files import read_json
from stages.publishing.html.page import TEMPLATES, used

STYLE = "style.css"
CLAIMS = "claims.jsonl.xz"
_INLINE = re.compile(r"<style>\n(?P<css>.*?)\n?</style>", re.DOTALL)
_POLICY = "style-src &#39;unsafe-inline&#39;"  # of a page alone
_LINKED = (
    "style-src &#39;self&#39; file: &#39;unsafe-inline&#39;"  # `file:`: opened from disk, a page is nobody's 'self'
)


def stylesheet() -> str:
    return (TEMPLATES / "page.css").read_text(encoding="utf-8")


def linked(page: str, root: str) -> str:
    """A page with a link to the stylesheet in place of its own style; as it is where that is of another version.

    `root`: from the page's folder to the site's, such as `../`.
    """
    found = _INLINE.search(page)
    if found is None or _POLICY not in page:
        return page
    body = page[: found.start()] + page[found.end() :]
    if found["css"].strip() != used(stylesheet(), body).strip():
        return page
    link = f'<link rel="stylesheet" href="{root}{STYLE}">'
    head = page[: found.start()].replace(_POLICY, _LINKED, 1)
    return f"{head}{link}{page[found.end() :]}"


def of_a_claim(name: str) -> bool:
    """Whether a file of reports/ says once more what a claim's page and `CLAIMS` say."""
    path = Path(name)
    return name == "claims.md" or (path.parent.as_posix() == "claims" and path.suffix in (".json", ".md"))


def claims_archive(reports: Mapping[str, Path]) -> bytes:
    """Every `claims/<name>.json` as a line of JSON Lines, packed by xz; b"" for none. The same files give the same
    bytes.

    Raises InputError naming a file that is no JSON.
    """
    files = [path for name, path in sorted(reports.items()) if of_a_claim(name) and name.endswith(".json")]
    lines = [json.dumps(read_json(path), sort_keys=True, ensure_ascii=False, separators=(",", ":")) for path in files]
    return lzma.compress("".join(f"{line}\n" for line in lines).encode()) if lines else b""
