"""Text that a page hides in its own markup: it leaves the tree.

Decided is what an element says of itself: the attribute `hidden`, and `display: none` and `visibility: hidden` in its
`style`. Style sheets aren't read, nor what else makes text invisible (a colour, a place off the screen), and
`aria-hidden` speaks of screen readers. Where most of a page is hidden, a script shows it: it stays.
"""

import re

from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.node import ElementNode

HIDES = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))", re.IGNORECASE)
CANDIDATES = '[hidden],[style*="isplay"],[style*="ISPLAY"],[style*="isibil"],[style*="ISIBIL"]'
LONG = 400  # characters from which a hidden element may be the page itself
WITHOUT_TEXT = "script,style,noscript,template"


def remove_hidden(tree: HTMLTree) -> bool:
    """Take hidden elements out of a tree; whether there were any."""
    body = tree.body
    if body is None:
        return False
    changed, whole = False, -1
    for element in body.query_selector_all(CANDIDATES).values():
        told = element.getattr("hidden")
        if not (
            (told is not None and told.strip().lower() != "until-found") or HIDES.search(element.getattr("style") or "")
        ):
            continue
        if element.local_name == "body":
            continue
        size = _size(element) if len(element.text_content or "") >= LONG else 0
        if size >= LONG:
            whole = _size(body) if whole < 0 else whole
            if 2 * size > whole:
                continue
        element.remove()
        changed = True
    return changed


def _size(element: ElementNode) -> int:
    """Characters of an element that a reader may see."""
    unread = sum(len(part.text_content or "") for part in element.query_selector_all(WITHOUT_TEXT).values())
    return len(element.text_content or "") - unread
