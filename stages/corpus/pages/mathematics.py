r"""Formulas in a page's tree to LaTeX in its text: `$x^2$`, or `$$x^2$$` where the formula stands apart.

Read are annotations in TeX inside MathML (KaTeX, Wikipedia, Pandoc), `alttext` of MathML (LaTeXML, arXiv), MathJax's
`<script type="math/tex">`, and the `alt` of the images that Wikipedia and WordPress show instead. `\(x\)` in the text
is left alone, and so is MathML without TeX.
"""

import re
from collections.abc import Iterator

from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.node import ElementNode

RENDERED = ".MathJax_Preview,.MathJax,.MathJax_Display,.MathJax_SVG,.MathJax_SVG_Display,.MathJax_CHTML,.mjx-chtml"
FORMULA_CLASSES = frozenset(("katex", "katex-display", "katex-block", "mwe-math-element", "mwe-math-mathml-display"))
DISPLAY_CLASSES = frozenset(
    (
        "katex-display",
        "katex-block",
        "mwe-math-fallback-image-display",
        "mwe-math-element-block",
        "mwe-math-mathml-display",
    )
)
IMAGES = "img.mwe-math-fallback-image-inline,img.mwe-math-fallback-image-display,img.latex,img.tex"
SOURCES = f'annotation[encoding],script[type^="math/tex"],math[alttext],{IMAGES}'
LEVELS = 16  # at most, from an annotation up to the formula's outermost element
DISPLAY_STYLE = re.compile(r"\{\\displaystyle\s(.*)\}", re.DOTALL)
DONE = "data-formula-done"


def _ancestors(element: ElementNode) -> Iterator[ElementNode]:
    at: ElementNode | None = element
    for _ in range(LEVELS):
        if at is None:
            return
        yield at
        at = at.parent_element


def _tex(source: ElementNode) -> str:
    """The TeX that an element holds, or ""."""
    tag = source.local_name
    if tag == "img":
        tex = source.getattr("alt") or ""
    elif tag == "math":
        tex = source.getattr("alttext") or ""
    elif tag == "annotation" and "tex" not in (source.getattr("encoding") or "").lower():
        return ""
    else:
        tex = source.text_content or ""
    tex = " ".join(tex.split())
    styled = DISPLAY_STYLE.fullmatch(tex)
    return styled[1].strip() if styled else tex.strip("$ ")


def _formula(source: ElementNode) -> tuple[ElementNode, bool]:
    """(The outermost element of the formula that a source belongs to, whether it stands apart)."""
    outermost, display = source, "mode=display" in (source.getattr("type") or "")
    for element in _ancestors(source):
        classes = frozenset((element.getattr("class") or "").split())
        tag = element.local_name
        if element is source or tag in ("math", "mjx-container") or classes & FORMULA_CLASSES:
            outermost = element
            display |= element.getattr("display") in ("block", "true") or bool(classes & DISPLAY_CLASSES)
    return outermost, display


def write_latex(tree: HTMLTree) -> bool:
    """Replace the formulas of a tree by their LaTeX; whether there were any."""
    root = tree.document
    if root is None or root.query_selector(SOURCES) is None:
        return False
    sources = root.query_selector_all(SOURCES).values()
    if any(source.local_name == "script" for source in sources):
        for rendered in root.query_selector_all(RENDERED).values():
            rendered.remove()
    for source in sources:
        tex = _tex(source)
        formula, display = _formula(source)
        if not tex or formula.hasattr(DONE):
            continue
        formula.setattr(DONE, "")
        if formula.parent_node is not None:
            formula.replace_with(root.create_text_node(f"$${tex}$$" if display else f"${tex}$"))
    return True
