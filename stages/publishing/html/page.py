"""From a view (plain values) to one HTML page that needs nothing else: no script, no font, no network."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
CHARTS = {"main", "residuals", "chart", "svg"}  # keys whose values are SVG made by `charts`, not text


def render(view: dict[str, Any], template: str = "page.html") -> str:
    """The page of a template. Every text is escaped; only `CHARTS` and the stylesheet are taken as they are.

    A name that the view lacks raises UndefinedError: a page with silent holes is worse than none.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8"))
    return environment.get_template(template).render(**_trusted(view), css=css)


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
