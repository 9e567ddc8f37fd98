"""A page's tree before an extractor sees it: formulas, code, scripts and ruby as plain text has them, hidden text gone.

Each step looks at a page only if a search of its markup finds what it is about: most pages need none of them.
"""

import re

from resiliparse.parse.html import HTMLTree

from stages.corpus.pages.hidden import remove_hidden
from stages.corpus.pages.listings import write_listings, write_numbered_tables
from stages.corpus.pages.mathematics import write_latex
from stages.corpus.pages.superscripts import write_mathml, write_ruby, write_scripts

# What the markup of a page holds, in lower case, for a step to have work; most pages need few.
ELEMENTS = re.compile(rb"<(math|su[pb]|rt|pre|table|xmp|plaintext|listing)[\s>]")
HIDING = (b"hidden", b"display:none", b"display: none", b"visibility:")
CODE_WITHOUT_PRE = (b'class="fragment"', b"react-code-lines")


def rewrite(tree: HTMLTree, markup: bytes) -> bool:
    """Change the tree of a page, of which `markup` is the source in lower case; whether anything was changed."""
    elements = set(ELEMENTS.findall(markup))
    changed = write_latex(tree)
    if b"math" in elements:
        changed |= write_mathml(tree)
    if any(word in markup for word in HIDING):
        changed |= remove_hidden(tree)
    if elements & {b"xmp", b"plaintext", b"listing"}:
        changed |= write_raw(tree)
    if b"table" in elements:
        changed |= write_numbered_tables(tree)
    if b"pre" in elements or any(word in markup for word in CODE_WITHOUT_PRE):
        changed |= write_listings(tree)
    if elements & {b"sup", b"sub"}:
        changed |= write_scripts(tree)
    if b"rt" in elements:
        changed |= write_ruby(tree)
    return changed


def write_raw(tree: HTMLTree) -> bool:
    """The obsolete elements whose markup is text as `<pre>`; whether there were any."""
    root = tree.document
    found = root.query_selector_all("xmp,plaintext,listing").values() if root else []
    for element in found:
        if root is not None and element.parent_node is not None:
            block = root.create_element("pre")
            block.append_child(root.create_text_node(element.text_content or ""))
            element.replace_with(block)
    return bool(found)
