"""Code as pages set it, with numbers beside its lines, as plain `<pre>`: the numbers go, lines and indentation stay.

Tables with a column of numbers (Hexo, Rouge, Pygments, Chroma, GitHub, SyntaxHighlighter, Crayon), numbers in elements
of their own (Pygments, Chroma, Prism and the like in line, Doxygen), and an element a line instead of line feeds.
"""

import re
from collections.abc import Iterable

from resiliparse.parse.html import HTMLTree
from resiliparse.parse.html.node import ElementNode

# Names of cells with code or its numbers, as the tools above write them.
NAMES = re.compile(r"\b(?:blob-(?:code|num)|js-file-line|hljs-ln\w*|linenos?|line[-_]?num\w*|gutter|crayon-\w+)\b")
NUMBERS = (
    ".lineno,.linenos,.ln,.lnt,.lnr,.line-number,.line-numbers,.line_number,.line_numbers,.linenumber,.lineNumber,"
    ".linenums,.linenodiv,.line-num,.line-numbers-rows,.hljs-ln-n,.hljs-ln-numbers,.gutter,.rouge-gutter,.src-line-numbers,"
    ".code-line-number,.codeLineNumber,.react-line-number,.crayon-nums,"
    '.react-syntax-highlighter-line-number,pre span[style*="user-select"]'  # the last is how Hugo writes Chroma's
)
HOLDERS = (
    "div.fragment,.geshi>ol,.react-code-lines,.CodeMirror-code,.cm-content"  # code without <pre>, an element a line
)
LINES = ".line,.code-line,.token-line,[data-line],[data-line-number]"
LINE_TAGS = "div,li,tr,p"
MOST_CELLS = 4  # in a row of code: numbers, maybe those of an older state, a sign, the line
ONLY_NUMBERS = re.compile(r"[\s\d]*")
PIECE = re.compile(r"<!--.*?-->|<(/?)([a-zA-Z][^\s/>]*)[^>]*>|([^<]+)", re.DOTALL)
BLOCKS = frozenset(
    (
        "address",
        "article",
        "blockquote",
        "dd",
        "div",
        "dl",
        "dt",
        "figure",
        "li",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "tr",
        "ul",
    )
)


def write_numbered_tables(tree: HTMLTree) -> bool:
    """Rewrite the tables of a tree that set numbers beside code; whether there were any."""
    body = tree.body
    changed = False
    for table in body.query_selector_all("table").values() if body else ():
        lines = _listed(table)
        if lines is not None:
            _replace(tree, table, lines)
            changed = True
    return changed


def write_listings(tree: HTMLTree) -> bool:
    """Rewrite all other code of a tree; whether any was changed."""
    body = tree.body
    if body is None:
        return False
    changed = False
    for number in body.query_selector_all(NUMBERS).values():
        if _is_gutter(number):
            number.remove()
            changed = True
    for holder in body.query_selector_all(HOLDERS).values():
        if holder.closest("pre") is None and holder.query_selector("pre") is None:
            _replace(tree, holder, code_lines(holder.inner_html))
            changed = True
    for block in body.query_selector_all("pre").values():
        if block.parent_element is None or block.parent_element.closest("pre") is None:
            changed |= _flattened(block)
    return changed


def code_lines(markup: str) -> list[str]:
    """The lines of serialised code: line feeds and `<br>` end one, and so does each element that is a block."""
    lines: list[str] = []
    line, leaf, blocks = "", False, False
    for found in PIECE.finditer(markup):
        closing, name, text = found[1], (found[2] or "").lower(), found[3]
        if text is not None:
            line += text
        elif name == "br":
            line += "\n"
        elif name in BLOCKS:
            if line.strip() or (closing and leaf):
                lines += line.removesuffix("\n").split("\n")
            line, leaf, blocks = "", not closing, True
    if line.strip() or not blocks:
        lines += line.split("\n")
    return [_unescaped(line).rstrip() for line in lines]


def _unescaped(text: str) -> str:
    if "&" not in text:
        return text
    return text.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _consecutive(texts: Iterable[str]) -> bool:
    """Whether texts are nothing but numbers that count up by one; at least one of them."""
    joined = " ".join(texts)
    if not ONLY_NUMBERS.fullmatch(joined):
        return False
    words = joined.split()
    if not words or len(words[0]) > 7:
        return False
    first = int(words[0])
    return all(len(word) < 8 and int(word) == first + place for place, word in enumerate(words))


def _cells(row: ElementNode) -> list[ElementNode]:
    return [cell for cell in row.children.values() if cell.local_name in ("td", "th")]


def _listed(table: ElementNode) -> list[str] | None:
    """The lines of code of a table with numbers beside them; None for any other table."""
    first = table.query_selector("tr")
    top = _cells(first) if first is not None else []
    if len(top) < 2 or len(top) > MOST_CELLS:
        return None
    inside, code = table.closest("pre") is not None, top[-1].query_selector("pre") is not None
    named = any(NAMES.search(cell.getattr("class") or "") for cell in top)
    if not (inside or named or code) or table.query_selector("table") is not None:
        return None
    cells = [_cells(row) for row in table.query_selector_all("tr").values()]
    if any(not 2 <= len(row) <= MOST_CELLS for row in cells):
        return None
    beside = [cell for row in cells for cell in row[:-1]]
    numbers = [" ".join(code_lines(cell.inner_html)) for cell in beside]
    attributes = [cell.getattr("data-line-number") or "" for cell in beside]
    if not (_consecutive(numbers) or (not "".join(numbers).strip() and _consecutive(attributes))):
        return None
    several = len(cells) > 1 or len(numbers[0].split()) > 1
    if not (inside or (named and (code or several)) or (code and len(cells) == 1)):
        return None
    lines: list[str] = []
    for row in cells:
        written = "\n".join(code_lines(row[-1].inner_html))
        lines += (written.strip("\n") if len(cells) > 1 else written.rstrip("\n")).split("\n")
    return lines


def _is_gutter(element: ElementNode) -> bool:
    """Whether an element that is named so holds nothing but line numbers, in code or beside it."""
    if not ONLY_NUMBERS.fullmatch(element.text_content or ""):
        return False
    if element.local_name != "pre" and (element.closest("pre") is not None or element.closest(HOLDERS) is not None):
        return True
    beside = element.next_element_sibling
    code = beside is not None and (beside.local_name == "pre" or beside.query_selector("pre") is not None)
    return code and _consecutive(code_lines(element.inner_html))


def _replace(tree: HTMLTree, element: ElementNode, lines: list[str]) -> None:
    """Set code in the place of an element: within code that there is, or as code of its own."""
    root = tree.document
    if root is None or element.parent_node is None:
        return
    text = root.create_text_node("\n".join(lines))
    if element.closest("pre") is not None:
        element.replace_with(text)
        return
    block = root.create_element("pre")
    block.append_child(text)
    element.replace_with(block)


def _flattened(block: ElementNode) -> bool:
    """Line feeds in code that has an element a line; whether it had."""
    if block.query_selector(LINE_TAGS) is not None:
        block.text_content = "\n".join(code_lines(block.inner_html))
        return True
    if "\n" in (block.text_content or "").strip() or block.query_selector("br") is not None:
        return False
    lines = block.query_selector_all(LINES).values()
    if len(lines) < 2:
        lines = block.query_selector_all("code").values()
    if len(lines) < 2 or any(line.query_selector(LINES) is not None for line in lines):
        return False
    block.text_content = "\n".join((line.text_content or "").strip("\n") for line in lines)
    return True
