"""From a view (plain values) to one HTML page that needs nothing else: no file beside it, no font, no network."""

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
CHARTS = {"main", "residuals", "chart", "svg"}  # keys whose values are SVG made by `charts`, not text
# There are many pages of these two, of short tables: no script, so that all of them together stay small.
PLAIN = ("claim.html", "lineage.html")
PLACE = "</css>"  # of the stylesheet, until the page is known; no text can hold it, as texts are escaped


def render(view: dict[str, Any], template: str) -> str:
    """The page of a template. Every text is escaped; only `CHARTS`, the stylesheet and our scripts stay as they are.

    The page's Content-Security-Policy names each script by its hash, so that no other runs. A name that the view lacks
    raises UndefinedError: a page with silent holes is worse than none.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    names = [] if template in PLAIN else ["tables.js"]
    names += ["answers.js"] if template == "answers.html" else []
    scripts = [_read(name) for name in names]
    body = environment.get_template(template).render(
        **_trusted(view), css=Markup(PLACE), scripts=[Markup(script) for script in scripts], policy=policy(scripts)
    )
    return body.replace(PLACE, used(_read("page.css"), body), 1)


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def policy(scripts: list[str]) -> str:
    """A Content-Security-Policy under which nothing is loaded and only these inline scripts run."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    run = "".join(f" 'sha256-{digest}'" for digest in digests) or " 'none'"
    return (
        f"default-src 'none'; script-src{run}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def used(css: str, body: str) -> str:
    """The rules of a stylesheet that can apply to a page: all but those of a class that no word of the page names."""
    words = set(re.findall(r"[\w-]+", body))
    return "".join(_kept(css, words))


def _kept(css: str, words: set[str]) -> Iterator[str]:
    at = 0
    while (start := css.find("{", at)) >= 0:
        end = _closing(css, start)
        head, inside = css[at:start].strip(), css[start + 1 : end]
        if head.startswith("@media"):
            if rules := "".join(_kept(inside, words)):
                yield f"{head} {{\n{rules}}}\n"
        elif any(words.issuperset(_classes(one)) for one in head.split(",")):
            yield f"{head} {{{inside}}}\n"
        at = end + 1


def _classes(selector: str) -> list[str]:
    return re.findall(r"\.([a-zA-Z][\w-]*)", re.sub(r":not\([^)]*\)", "", selector))


def _closing(css: str, start: int) -> int:
    """Place of the brace that closes the one at `start`."""
    depth = 0
    for at in range(start, len(css)):
        depth += {"{": 1, "}": -1}.get(css[at], 0)
        if not depth:
            return at
    raise ValueError(f"page.css: the brace at character {start} isn't closed")


def _trusted(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: Markup(item)
            if key in CHARTS and isinstance(item, str) and item.startswith("<svg ")
            else _trusted(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_trusted(item) for item in value]
    return value
