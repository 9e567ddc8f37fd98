"""How deeply the elements of a page nest, known from its tags before it is parsed.

A count of tags is enough for most pages. For the others the stack of open elements is kept as the HTML Standard builds
it (13.2.6), as far as it matters for the depth: what stands in comments, scripts, styles and attributes is no tag; void
elements don't open; an end tag closes what stands in its element, and none in an outer one that it has no business
with; paragraphs, items and cells close their like; formatting that is left open (`<i class="icon"/>`) comes again in
the next paragraph, at most three times the same.
"""

import re
from collections import Counter

NAMES = re.compile(rb"<(/?)([a-z][^\s/>]*+)")
# An alternative ends at the end of the page at the latest, so that none is tried twice: linear time on any bytes.
TOKEN = re.compile(
    rb"<!--(?:>|->|.*?(?:--!?>|\Z))|<[!?][^>]*+(?:>|\Z)"
    rb"|<(?P<raw>script|style|textarea|title|xmp|iframe|noembed|noframes)(?=[\s/>])"
    rb"(?:[^>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?+)*+(?:>|\Z)(?:.*?</(?P=raw)(?=[\s/>])|.*)"
    rb"|<(?P<end>/?)(?P<name>[a-z][^\s/>]*+)(?P<rest>(?:[^>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?+)*+)(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
VOID = frozenset(
    b"area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr".split()
)
FORMATTING = frozenset(b"b big code em font i nobr s small strike strong tt u a".split())
ALIKE = 3  # elements of the same formatting that come again
# Elements that close their like, up to an element that holds such. They aren't counted: what holds them is.
CLOSES = {
    b"p": (b"p",),
    b"li": (b"li",),
    b"dt": (b"dt", b"dd"),
    b"dd": (b"dt", b"dd"),
    b"option": (b"option",),
    b"optgroup": (b"option", b"optgroup"),
    b"tr": (b"tr", b"td", b"th"),
    b"td": (b"td", b"th"),
    b"th": (b"td", b"th"),
    b"tbody": (b"tbody", b"thead", b"tfoot", b"tr", b"td", b"th"),
    b"thead": (b"tbody", b"thead", b"tfoot", b"tr", b"td", b"th"),
    b"tfoot": (b"tbody", b"thead", b"tfoot", b"tr", b"td", b"th"),
    b"rt": (b"rt", b"rp"),
    b"rp": (b"rt", b"rp"),
    b"a": (b"a",),
    b"nobr": (b"nobr",),
    b"button": (b"button",),
}
UNCOUNTED = frozenset(CLOSES) - {b"a", b"nobr", b"button"}
UNNESTED = frozenset((b"html", b"head", b"body", b"frameset"))
CELLS = frozenset((b"tr", b"td", b"th", b"tbody", b"thead", b"tfoot"))
MARKERS = frozenset((b"td", b"th", b"caption", b"object"))
HEADINGS = frozenset((b"h1", b"h2", b"h3", b"h4", b"h5", b"h6"))
CLOSE_PARAGRAPH = frozenset(
    b"address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form h1 h2 "
    b"h3 h4 h5 h6 header hgroup hr li dd dt listing main menu nav ol p pre search section summary table ul xmp".split()
)
SPECIAL = CLOSE_PARAGRAPH | CELLS | {b"button", b"select", b"template", b"object", b"caption"}
NO_LEVEL = VOID | UNCOUNTED | UNNESTED
# Elements that a search for an open one doesn't look beyond.
TABLE_SCOPE = frozenset((b"table", b"template"))
SCOPE = TABLE_SCOPE | {b"td", b"th", b"caption", b"object"}
ITEM_SCOPE = SPECIAL - {b"address", b"div", b"p"}
ORDINARY_SCOPE = SPECIAL | {b"svg", b"math"}


class _Stack:
    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.keys: list[bytes] = []  # the whole start tag
        self.counts: dict[bytes, int] = {}
        self.level = 0
        self.again: dict[bytes, int] = {}  # formatting left open, by its start tag
        self.waiting = 0

    def push(self, name: bytes, key: bytes) -> None:
        self.names.append(name)
        self.keys.append(key)
        self.counts[name] = self.counts.get(name, 0) + 1
        self.level += name not in UNCOUNTED

    def remove(self, place: int) -> None:
        name = self.names.pop(place)
        self.keys.pop(place)
        self.counts[name] -= 1
        self.level -= name not in UNCOUNTED

    def cut(self, place: int) -> None:
        """Close all elements from a place on; formatting comes again, unless a cell was its end."""
        cell = next((at for at in range(place, len(self.names)) if self.names[at] in MARKERS), len(self.names))
        while len(self.names) > place:
            at, name, key = len(self.names) - 1, self.names[-1], self.keys[-1]
            self.remove(at)
            if name in FORMATTING and at < cell and self.again.get(key, 0) < ALIKE:
                self.again[key] = self.again.get(key, 0) + 1
                self.waiting += 1

    def find(self, names: tuple[bytes, ...], scope: frozenset[bytes]) -> int:
        """The place of the innermost of some elements, not looking beyond `scope`; -1 for none."""
        if any(self.counts.get(name) for name in names):
            for place in range(len(self.names) - 1, -1, -1):
                if self.names[place] in names:
                    return place
                if self.names[place] in scope:
                    break
        return -1

    def close(self, names: tuple[bytes, ...], scope: frozenset[bytes]) -> None:
        if (place := self.find(names, scope)) >= 0:
            self.cut(place)

    def start(self, name: bytes, key: bytes) -> None:
        if name in CLOSE_PARAGRAPH:
            self.close((b"p",), SCOPE | {b"button"})
        if name in HEADINGS and self.names and self.names[-1] in HEADINGS:
            self.cut(len(self.names) - 1)
        elif name == b"a" or name == b"nobr":
            self.end_formatting(name)
        elif name in CELLS:
            self.close(CLOSES[name], TABLE_SCOPE)
        elif name in CLOSES:
            self.close(CLOSES[name], SCOPE if name == b"button" else ITEM_SCOPE - {name, *CLOSES[name]})
        self.push(name, key)

    def end(self, name: bytes) -> None:
        if name in FORMATTING:
            self.end_formatting(name)
        elif name == b"table" or name in CELLS:
            self.close((name,), TABLE_SCOPE)
        else:
            self.close((name,), SCOPE if name in SPECIAL else ORDINARY_SCOPE)

    def end_formatting(self, name: bytes) -> None:
        """Close a formatting element, not the blocks that stand in it (the adoption agency algorithm)."""
        place = self.find((name,), SCOPE)
        if place >= 0:
            block = any(inner in SPECIAL for inner in self.names[place + 1 :])
            self.remove(place)
            if not block:
                self.cut(place)
            return
        for key in reversed(self.again):
            if self.again[key] and key[1 : len(name) + 1].lower() == name and not key[len(name) + 1 :][:1].isalnum():
                self.again[key] -= 1
                self.waiting -= 1
                return


def depth(page: bytes, limit: int | None = None) -> int:
    """The most elements of a page that stand in one another; the first number above `limit` will do."""
    stack, deepest = _Stack(), 0
    for found in TOKEN.finditer(page):
        tag = found["name"]
        if tag is None:
            continue
        name = tag.lower()
        if found["end"]:
            stack.end(name)
        elif name not in VOID and name not in UNNESTED:
            if stack.counts.get(b"form") and name == b"form":
                continue
            if found["rest"].endswith(b"/") and (stack.counts.get(b"svg") or stack.counts.get(b"math")):
                continue  # only there does it close an element
            stack.start(name, found[0])
            deepest = max(deepest, stack.level + stack.waiting)
            if limit is not None and deepest > limit:
                break
    return deepest


def too_deep(page: bytes, limit: int) -> bool:
    """Whether more than `limit` elements of a page stand in one another."""
    return _bound(page) > limit and depth(page, limit) > limit


def _bound(page: bytes) -> int:
    """The most elements that are open at once, if every end tag ends an element of its name, wherever that stands."""
    open_tags: Counter[bytes] = Counter()
    level = deepest = 0
    for end, name in NAMES.findall(page.lower()):
        if name in NO_LEVEL:
            continue
        if not end:
            open_tags[name] += 1
            level += 1
            if level > deepest:
                deepest = level
        elif open_tags[name]:
            open_tags[name] -= 1
            level -= 1
    return deepest
