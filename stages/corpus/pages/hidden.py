"""Text that a page hides in its own markup: it leaves the tree.

Decided is what an element says of itself: the attribute `hidden`, and `display: none` and `visibility: hidden` in its
`style`. Style sheets aren't read, nor what else makes text invisible (a colour, a place off the screen), and
`aria-hidden` speaks of screen readers. Where most of a page is hidden, in one element or in several of one class (the
sections of a gallery), a script shows it: it stays.
"""

import re
from collections import Counter

from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.node import ElementNode

HIDES = re.compile(r"(?:^|[;\s])(?:display\s*:\s*none|visibility\s*:\s*(?:hidden|collapse))", re.IGNORECASE)
CANDIDATES = '[hidden],[style*="isplay"],[style*="ISPLAY"],[style*="isibil"],[style*="ISIBIL"]'
LONG = 400  # characters from which a hidden element may be the page itself
Name = tuple[str | None, str | None]  # of an element: its own and its class
WITHOUT_TEXT = "script,style,noscript,template"


def remove_hidden(tree: HTMLTree) -> bool:
    """Take hidden elements out of a tree; whether there were any."""
    body = tree.body
    if body is None:
        return False
    hidden = [element for element in body.query_selector_all(CANDIDATES).values() if _is_hidden(element)]
    sizes = [_size(element) if len(element.text_content or "") >= LONG else 0 for element in hidden]
    names = [
        (one.local_name, one.getattr("class")) if size >= LONG and not _within_hidden(one) else None
        for one, size in zip(hidden, sizes, strict=True)
    ]
    half = _size(body) / 2 if any(sizes) else 0.0
    together: Counter[Name] = Counter()
    for name, size in zip(names, sizes, strict=True):
        if name is not None:
            together[name] += size
    changed = False
    for element, size, name in zip(hidden, sizes, names, strict=True):
        shown = size > half or (name is not None and together[name] > half)
        if size < LONG or not shown:
            element.remove()
            changed = True
    return changed


def _within_hidden(element: ElementNode) -> bool:
    above = element.parent
    while isinstance(above, ElementNode) and above.local_name != "body":
        if _is_hidden(above):
            return True
        above = above.parent
    return False


def _is_hidden(element: ElementNode) -> bool:
    told = element.getattr("hidden")
    by_attribute = told is not None and told.strip().lower() != "until-found"
    return element.local_name != "body" and (by_attribute or bool(HIDES.search(element.getattr("style") or "")))


def _size(element: ElementNode) -> int:
    """Characters of an element that a reader may see."""
    unread = sum(len(part.text_content or "") for part in element.query_selector_all(WITHOUT_TEXT).values())
    return len(element.text_content or "") - unread
