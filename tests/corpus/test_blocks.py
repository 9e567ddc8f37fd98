"""The blocks of a page: the scanner against a walk over the parser's nodes, and what the model rests on."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from stages.corpus.pages.block_features import FEATURE_NAMES, features
from stages.corpus.pages.block_model import data_tables, vote
from stages.corpus.pages.block_names import BLOCK_TAGS, NAME_KEYS, NAME_VALUES, NAMES, VOID_TAGS, name_table, scanned
from stages.corpus.pages.block_scan import name_hash
from stages.corpus.pages.block_text import prose, serialised
from stages.corpus.pages.block_weights import WEIGHTS

BLOCK_LEVEL, VOID = frozenset(BLOCK_TAGS.split()), frozenset(VOID_TAGS.split())
TAGS = (
    "div",
    "p",
    "ul",
    "li",
    "table",
    "h2",
    "section",
    "nav",
    "b",
    "span",
    "a",
    "em",
    "br",
    "hr",
    "img",
    "pre",
    "x-y",
    "ruby",
)
TEXTS = (
    "word",
    " ",
    "Two words. ",
    "a&amp;b",
    "&lt;p&gt;",
    "\u00a0",
    "x\n y",
    "日本語。",
    "ä, ö; 12",
    "<!-- <p> -->",
    "end?",
    "© 1999 |",
)


class Walk:
    """The blocks of a page, from its nodes: (container's tag and depth, characters with whether each is a link)."""

    def __init__(self, body) -> None:
        self.blocks: list[tuple[str, int, list[tuple[str, bool]]]] = []
        self._text: list[tuple[str, bool]] = []
        self._at: list[str] = [""]
        self._linked = False
        self._element(body)
        self._end()

    def _element(self, node) -> None:
        tag = node.node_name.lower()
        if tag == "#text":
            self._text += [(sign, self._linked) for sign in node.node_value]
        elif tag == "br":
            self._text.append((" ", False))
        elif tag not in BLOCK_LEVEL and not tag.startswith("#"):
            was, self._linked = self._linked, tag == "a" or self._linked
            self._children(node)
            self._linked = was
        elif not tag.startswith("#"):
            self._end()
            if tag not in VOID:
                self._at.append(tag)
                self._children(node)
                self._end()
                self._at.pop()

    def _children(self, node) -> None:
        for child in node.child_nodes.values():
            self._element(child)

    def _end(self) -> None:
        collapsed: list[tuple[str, bool]] = []
        for place, (sign, linked) in enumerate(self._text):
            if not sign.isspace():
                if collapsed and self._text[place - 1][0].isspace():
                    collapsed.append((" ", linked))
                collapsed.append((sign, linked))
        if collapsed:
            self.blocks.append((self._at[-1], len(self._at) - 1, collapsed))
        self._text = []


def markup(tree: tuple | str) -> str:
    if isinstance(tree, str):
        return tree
    tag, children = tree
    inside = "".join(map(markup, children))
    return f"<{tag}>{inside}" if tag in ("br", "hr", "img") else f'<{tag} href="/x">{inside}</{tag}>'


TREES = st.recursive(
    st.sampled_from(TEXTS), lambda inner: st.tuples(st.sampled_from(TAGS), st.lists(inner, max_size=5)), max_leaves=25
)


@settings(max_examples=150, deadline=None)
@given(st.lists(TREES, max_size=6))
@example([("a", ["x", ("div", ["y ", ("b", [" z"])]), "w"]), "v"])
def test_the_scanner_finds_the_blocks_that_the_nodes_have(trees):
    tree = HTMLTree.parse("<body>" + "".join(map(markup, trees)))
    expected = Walk(tree.body).blocks
    bytes_ = serialised(tree)
    blocks, containers = scanned(bytes_)
    texts = [" ".join(prose(bytes_[block["start"] : block["end"]].decode()).split()) for block in blocks]
    assert texts == ["".join(sign for sign, _ in signs) for _, _, signs in expected]
    held = containers[blocks["container"]]
    assert held["tag"].tolist() == [name_hash(tag) for tag, _, _ in expected]
    assert held["depth"].tolist() == [depth for _, depth, _ in expected]
    assert blocks["chars"].tolist() == [len(signs) for _, _, signs in expected]
    assert blocks["link_chars"].tolist() == [sum(linked for _, linked in signs) for _, _, signs in expected]
    assert blocks["words"].tolist() == [text.count(" ") + 1 for text in texts]
    for row in range(len(containers)):  # a container's blocks are those of it and all inside it
        inside = [row <= at < containers[row]["end_container"] for at in blocks["container"]]
        assert np.flatnonzero(inside).tolist() == list(
            range(containers[row]["first_block"], containers[row]["end_block"])
        )
    assert np.isfinite(features(blocks, containers)).all()


def test_names_are_read_word_by_word():
    groups = list(NAMES)
    page = (
        '<div class="siteFooter x-1" id="SIDEBAR"><p style="color:red;display: none">a</p><p title="footer">b</p></div>'
    )
    _, containers = scanned(serialised(HTMLTree.parse(page)))
    found = [{name for place, name in enumerate(groups) if bits >> place & 1} for bits in containers["own_names"]]
    assert {"footer", "side"} <= found[2] and "hidden" not in found[2]
    assert found[3] == {"hidden"} and found[4] == set()
    assert (name_table()[0] == NAME_KEYS).all() and np.count_nonzero(NAME_VALUES) == np.count_nonzero(NAME_KEYS)


def test_weights_are_those_of_the_features():
    assert len(WEIGHTS) == len(FEATURE_NAMES) == len(set(FEATURE_NAMES))


def test_a_unit_has_one_answer():
    cell = "<td>some words in a cell</td>"
    page = (
        f"<p>{'word ' * 40}</p><table><tr>{cell}<td>1</td></tr><tr>{cell}<td>2</td></tr></table><p>{'word ' * 40}</p>"
    )
    blocks, containers = scanned(serialised(HTMLTree.parse(page)))
    tables = data_tables(blocks, containers)
    assert (tables > 0).tolist() == [False, True, True, True, True, False]

    def decided(*content: bool) -> list[bool]:
        return vote(np.array(content), blocks, containers, tables).tolist()

    no, yes = False, True
    assert decided(no, yes, no, yes, no, no) == [no, yes, yes, yes, yes, no]
    assert decided(no, no, yes, no, yes, no) == [no] * 6
    assert decided(yes, no, no, no, no, no) == [yes, no, no, no, no, no]
    assert decided(yes, no, no, no, no, yes) == [yes] * 6  # it stands between content
