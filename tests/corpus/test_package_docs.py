"""package_docs against `inspect` (which imports), against hostile docstrings, and against its own determinism."""

import ast
import inspect
import statistics
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.parse.html import HTMLTree

from stages.base.errors import InputError
from stages.corpus.package_docs import locate, read
from stages.corpus.package_docs.collect import PackageDocsParams, choose, rendered
from stages.corpus.package_docs.markup import to_html

NUMPYDOC = """Scale a vector.

Longer text with ``code`` and a :func:`mean` reference::

    literal block

Parameters
----------
x : float
    The factor.
mode : str
    How to round.

Notes
-----
* first point
  goes on
* second point

>>> scale(2)
4
"""


def params(**changes) -> PackageDocsParams:
    values = {"packages": ["stdlib"], "max_pages": 25, "min_chars": 300, "max_chars": 2000, "max_unparsable": 0.1}
    return PackageDocsParams(**(values | changes))


@pytest.mark.parametrize("module", [statistics, textwrap])
def test_docstrings_are_those_that_inspect_finds(module):
    path = Path(inspect.getsourcefile(module))
    found = read.read_module(module.__name__, read.parse(path), set())
    assert found.doc == inspect.getdoc(module)
    assert len(found.entries) > 3
    for entry in found.entries:
        assert entry.doc == (inspect.getdoc(getattr(module, entry.name)) or ""), entry.name


def test_attached_docstrings_of_c_objects_are_read():
    source = """
from numpy._core.function_base import add_newdoc
add_newdoc('numpy._core.multiarray', 'ndarray', ('T', 'View of the transposed array.'))
add_newdoc('numpy._core.multiarray', 'zeros', "zeros(shape, *, like=None)\\n\\nReturn a new array.")
add_docstr(torch.abs, r'''
abs(input, *, out=None) -> Tensor

Absolute value, \\frac{a}{b}.

Args:
    {input}
'''.format(**common))
"""
    entries = {
        e.name: e for e in read.read_module("numpy._core._docs", read.File(ast.parse(source), True), set()).entries
    }
    assert entries["ndarray.T"].doc == "View of the transposed array."
    assert (entries["zeros"].signature, entries["zeros"].doc) == ("zeros(shape, *, like=None)", "Return a new array.")
    assert entries["abs"].doc.startswith("Absolute value") and "{input}" not in entries["abs"].doc


def test_private_modules_show_only_what_is_made_public():
    tree = ast.parse("__all__ = ['a']\ndef a():\n  'A.'\ndef b():\n  'B.'\ndef c():\n  'C.'\n")
    module = read.read_module("pkg._impl.deep", read.File(tree, False), {"b"})
    assert (module.name, [e.name for e in module.entries]) == ("pkg", ["a", "b"])
    assert read.imported_names(ast.parse("from ._x import b as d, e\nfrom ._y import *")) == {"d", "e"}


def test_numpydoc_becomes_html_structure():
    html = to_html(NUMPYDOC, 3, {"mean": "https://docs/mean.html"}.get)
    tree = HTMLTree.parse(html)
    assert [n.text for n in tree.document.query_selector_all("h3")] == ["Parameters", "Notes"]
    assert [n.text for n in tree.document.query_selector_all("dt")] == ["x : float", "mode : str"]
    assert [n.text for n in tree.document.query_selector_all("li")] == ["first point goes on", "second point"]
    assert [n.text for n in tree.document.query_selector_all("pre")] == ["literal block", ">>> scale(2)\n4"]
    assert tree.document.query_selector("a").getattr("href") == "https://docs/mean.html"


PIECES = [*"ab <>&\"'`*:.-=\n[]_()~0\x00", "Args:\n", "\n---\n", ">>> ", "<script>"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=80))
def test_no_docstring_can_break_out_of_its_element(parts):
    html = to_html("".join(parts) + "<script>x</script>", 2, lambda name: None)
    assert not HTMLTree.parse(html).document.query_selector("script")
    assert "\x00" not in html


def test_a_package_is_read_without_being_imported(tmp_path):
    folder = tmp_path / "trapdoor"
    folder.mkdir()
    (folder / "__init__.py").write_text(f"'''{'A package that must not run. ' * 30}'''\nraise SystemExit('imported')\n")
    (folder / "broken.py").write_text("def f(:\n")
    package = locate.Package("trapdoor", "1.2.3", "MIT", folder)
    pages, parsed, failed = choose([package], params(), 1)
    assert [page.url for page in pages] == ["https://docs.trainyard.invalid/trapdoor/1.2/trapdoor.html"]
    assert (parsed, failed) == (2, ["trapdoor.broken"]) and "trapdoor" not in sys.modules


def test_pages_are_a_fixed_choice_within_bounds_and_show_no_local_path():
    package = locate.locate("stdlib")
    first = choose([package], params(max_pages=12), 3)[0]
    rows = list(rendered(first))
    assert rows == list(rendered(choose([package], params(max_pages=12), 3)[0]))
    assert len(rows) == 12 == len({row.url for row in rows})
    assert all(300 <= page.chars <= 2000 + 2000 / 2 for page in first)
    assert not any(str(package.root).encode() in row.html for row in rows)
    other = choose([package], params(max_pages=12), 4)[0]
    assert [page.url for page in first] != [page.url for page in other]


def test_licence_version_and_root_come_from_metadata():
    package = locate.locate("scikit-learn")
    assert package.name == "sklearn" and package.root.is_dir() and "BSD" in package.licence
    assert package.site_version.count(".") == 1


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(InputError, match="no-such-package"):
        locate.locate("no-such-package")
