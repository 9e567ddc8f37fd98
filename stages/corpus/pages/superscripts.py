"""What stands above or below the line keeps its meaning in plain text: 10^6, x_i, ruby in brackets, MathML as a/b.

`<sup>` holds exponents (10^6), charges (Ca^2+), notes (word[3]) and the ends of ordinals (1st, which stays as it is);
`<sub>` indices (x_i) and the numbers of chemical formulas, which plain text has on the line (H2O). What is none of
these is left alone.
"""

import re

from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.node import DOMNode, ElementNode

BEFORE = 40  # characters before a script that decide what it is
INLINE_TAGS = "a abbr b bdi big cite code em font i math mi mn mrow q s small span strong sub sup u var"
CLIMB = 4  # inline elements upwards that are left for what stands before
INLINE = frozenset(INLINE_TAGS.split())
SIGNS = "+\u2212\u2013\\-"
NUMBER = re.compile(rf"[{SIGNS}]?\d+(?:\.\d+)?[{SIGNS}]?|[{SIGNS}]")
VARIABLE = re.compile(rf"[{SIGNS}]?\d*[nmkxyzijtpqTNM\u03b1-\u03c9]")
SUM = re.compile(rf"[{SIGNS}]?[\w.]+(?:\s*[{SIGNS}*/\u00b7\u00d7^]\s*[\w.]+)+")
NOTES = re.compile(r"\d+(?:\s*[,;\u2013-]\s*\d+)+")
NOTE = re.compile(r"\d{1,4}|[a-z]|[ivx]{1,5}")
LETTERS = re.compile(r"[^\W\d_]*$")
PROSE_LETTERS = 5  # of a word that a number above belongs to as a note, unless it is a unit
UNITS = re.compile(r"(?:kilo|centi|milli)?met(?:re|er)s?|miles|yards|inches")
ELEMENT = (
    "A[cglmrstu]|B[aehikr]?|C[adeflmnorsu]?|D[bsy]|E[rsu]|F[elmr]?|G[ade]|H[efgos]?|I[nr]?|Kr?|L[aiuv]|M[dgnot]|N[abdeip]?"
    "|O[sg]?|P[abdmortu]?|R[abefghnu]|S[bcegimnr]?|T[abcehilm]|U|V|W|Xe|Yb?|Z[nr]"
)
FORMULA = re.compile(rf"(?:(?:{ELEMENT}|[()\[\]])\d*)+")
FORMULA_TAIL = re.compile(r"[A-Za-z0-9()\[\]]*$")
SINGLE = frozenset("HONFIPSCB")  # elements that make formulas of their own: O2, C60; V2 is a variable
INDEX = re.compile(r"[^\W_][\w,.+\u2212-]{0,11}")
SIMPLE = re.compile(r"[\w.]+|.")

SCRIPTS = "sup,sub"
FORMULA_PARTS = "msup,msub,msubsup,mfrac,msqrt,mroot,munder,mover,munderover"
INVISIBLE = frozenset("\u2061\u2062\u2063\u2064")  # operators of MathML: function application and the like


def superscript(before: str, text: str, linked: bool) -> str:
    """What a `<sup>` with this text becomes behind `before`; `linked`: it is a link."""
    mark = text.strip()
    if not mark or not before or before[-1].isspace():
        return text
    if (linked and NOTE.fullmatch(mark)) or NOTES.fullmatch(mark):
        return f"[{mark}]"
    last, word = before[-1], LETTERS.search(before)
    letters = word[0].lower() if word else ""
    if mark.isdecimal() and (
        last in ".,;:!?\u201d\u2019\"'\u00bb" or (len(letters) >= PROSE_LETTERS and not UNITS.fullmatch(letters))
    ):
        return f"[{mark}]"
    if not (last.isalnum() or last in ")]}|"):
        return text
    if NUMBER.fullmatch(mark) or (VARIABLE.fullmatch(mark) and len(letters) < 3):
        return f"^{mark}"
    return f"^({mark})" if SUM.fullmatch(mark) and len(letters) < 3 else text


def subscript(before: str, text: str) -> str:
    """What a `<sub>` with this text becomes behind `before`."""
    mark = text.strip()
    if not mark or not before or not (before[-1].isalnum() or before[-1] in ")]}|"):
        return text
    tail = FORMULA_TAIL.search(before)
    formula = tail[0] if tail else ""
    if mark.isdecimal() and mark != "1" and FORMULA.fullmatch(formula) and (len(formula) > 1 or formula in SINGLE):
        return mark
    if INDEX.fullmatch(mark):
        return f"_{mark}" if mark.replace(".", "").isalnum() else f"_({mark})"
    return f"_({mark})" if SUM.fullmatch(mark) else text


def _before(element: ElementNode) -> str:
    """The characters before an element in its line, white space and all."""
    at: DOMNode | None = element
    for _ in range(CLIMB):
        if at is None:
            return ""
        previous = at.prev
        while previous is not None and not isinstance(previous, ElementNode) and not _shown(previous):
            previous = previous.prev
        if previous is not None:
            inline = not isinstance(previous, ElementNode) or previous.local_name in INLINE
            return (previous.text_content or "")[-BEFORE:] if inline else ""
        at = at.parent_element
        if at is None or at.local_name not in INLINE:
            return ""
    return ""


def _shown(node: DOMNode) -> bool:
    return node.node_name == "#text" and bool(node.text_content)


def write_scripts(tree: HTMLTree) -> bool:
    """Rewrite the superscripts and subscripts of a tree; whether any was changed."""
    root = tree.document
    if root is None:
        return False
    changed = False
    for element in root.query_selector_all(SCRIPTS).values():
        text = element.text_content or ""
        if len(text) > BEFORE:
            continue
        before = _before(element)
        if element.local_name == "sub":
            written = subscript(before, text)
        else:
            around, inside = element.parent_element, element.query_selector("a")
            alone = element.prev is None and element.next is None
            if around is not None and around.local_name == "a" and alone:
                written = superscript(_before(around), text, linked=True)
            else:
                linked = inside is not None and (inside.text_content or "").strip() == text.strip()
                written = superscript(before, text, linked)
        if written != text:
            (element.query_selector("a") or element).text_content = written
            changed = True
    return changed


def write_ruby(tree: HTMLTree) -> bool:
    """Readings of ruby in brackets, which `<rp>` has for whoever can't set them above (HTML Standard, 4.5.10)."""
    root = tree.document
    if root is None:
        return False
    changed = False
    for reading in root.query_selector_all("ruby rt").values():
        text = (reading.text_content or "").strip()
        before = reading.prev
        while before is not None and not (before.text_content or "").strip() and before.node_name != "RP":
            before = before.prev
        if text and (before is None or before.node_name != "RP"):
            reading.text_content = f"({text})"
            changed = True
    return changed


def _group(text: str) -> str:
    text = text.strip()
    return text if SIMPLE.fullmatch(text) else f"({text})"


def write_mathml(tree: HTMLTree) -> bool:
    """Formulas in MathML without TeX as a line of text: v/2, x^2, a_i, \u221a(x)."""
    root = tree.document
    if root is None:
        return False
    for copy in root.query_selector_all("math annotation,math annotation-xml").values():
        copy.remove()
    for part in reversed(root.query_selector_all(FORMULA_PARTS).values()):  # the inner ones first
        children = [(child.text_content or "").strip() for child in part.children.values()]
        part.text_content = _line(part.local_name or "", children)
    operators = root.query_selector_all("math mo").values()
    for operator in operators:
        if (operator.text_content or "") in INVISIBLE:
            operator.text_content = ""
    return root.query_selector("math") is not None


def _line(tag: str, children: list[str]) -> str:
    base, *others = [_group(child) for child in children] or [""]
    if tag == "msqrt":
        return f"\u221a({' '.join(children)})"
    if tag == "mroot" and others:
        return f"{base}^(1/{others[0]})"
    if tag == "mfrac" and others:
        return f"{base}/{others[0]}"
    signs = "_^" if tag in ("msubsup", "munderover") else "_" if tag in ("msub", "munder") else "^"
    base = children[0] if children and len(children[0]) < 2 else base
    return base + "".join(sign + other for sign, other in zip(signs, others, strict=False))
