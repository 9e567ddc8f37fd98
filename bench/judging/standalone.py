"""Plots of `stages.publishing.html.charts` side by side in one SVG file that needs no page around it."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from stages.publishing.html.charts import Plot

CSS = Path(__file__).resolve().parents[2] / "stages" / "publishing" / "html" / "templates" / "page.css"
TITLE = 30  # pixels above each plot


def figure(plots: Sequence[tuple[str, Plot]]) -> str:
    """SVG text: each plot under its title, in the report's light colours."""
    css = CSS.read_text(encoding="utf-8")
    colours = css[css.index("{") + 1 : css.index("}")]  # the first rule declares them for the light theme
    rules = "".join(line for line in css.splitlines() if re.match(r"\.plot[ .]", line))
    width, height = sum(plot.width for _, plot in plots), max(plot.height for _, plot in plots) + TITLE
    parts, left = [], 0.0
    for title, plot in plots:
        inner = plot.svg().replace(
            "<svg ", f'<svg x="{left:g}" y="{TITLE}" width="{plot.width:g}" height="{plot.height:g}" ', 1
        )
        parts.append(f'<text class="heading" x="{left + 10:g}" y="19">{escape(title)}</text>{inner}')
        left += plot.width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}">'
        f"<style>svg {{{colours}}} text {{ font-family: system-ui, sans-serif; }} "
        f".heading {{ font-size: 14px; font-weight: 600; fill: var(--ink); }} {rules}</style>"
        f'<rect width="100%" height="100%" fill="var(--paper)"/>{"".join(parts)}</svg>\n'
    )
