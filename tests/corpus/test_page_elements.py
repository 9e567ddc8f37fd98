"""Elements of pages: what is in a sentence, numbers beside code, lists, tables, hidden text, nesting."""

import pytest

from stages.corpus.pages.html_text import extract_text
from stages.corpus.pages.nesting import depth, too_deep
from tests.corpus.test_html_text import LONG, MODES, page


def kept(content: str, mode: str = "blocks") -> str:
    """The text between the second and the last paragraph of a page around some content."""
    text = extract_text(page(content), "", mode)
    return text[text.index("Second paragraph.") : text.index("Last paragraph.")].partition("\n\n")[2].strip("\n")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("a <x-term>custom</x-term> element", "a custom element"),
        ("an <unknown>unknown</unknown>, one", "an unknown, one"),
        ("<ruby>漢<rt>かん</rt>字<rt>じ</rt></ruby> as such", "漢(かん)字(じ) as such"),
        ("<ruby>漢<rp>[</rp><rt>かん</rt><rp>]</rp></ruby> as such", "漢[かん] as such"),
        ("<ruby>漢<rp>[</rp><rt>かん</rt><rp>]</rp>字<rt>じ</rt></ruby> as such", "漢[かん]字(じ) as such"),
        ("<ruby>漢<rp>[</rp><rt>x</rt><rp>]</rp></ruby>, <ruby>東<rt>y</rt></ruby> as such", "漢[x], 東(y) as such"),
        ("the <output>output</output> of <meter>half</meter>", "the output of half"),
        ("the longest <button>special</button> word of all", "the longest special word of all"),
        ("<button>Special</button> words begin a sentence", "Special words begin a sentence"),
        ("it is <math><msup><mi>x</mi><mn>2</mn></msup><mo>&#x2062;</mo><mi>y</mi></math> high", "it is x^2y high"),
        ("is <math><mfrac><mn>1</mn><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow></mfrac></math>", "is 1/(a+b)"),
        ("light flies 3·10<sup>8</sup> m s<sup>−1</sup>, H<sub>2</sub>O", "light flies 3·10^8 m s^−1, H2O"),
        ("the <i>x</i><sub>i</sub><sup>2</sup> and x<sub>max</sub>", "the x_i^2 and x_max"),
        ("in 1990<sup><a href='#n'>1</a></sup> the 1<sup>st</sup>", "in 1990[1] the 1st"),
        ("words<sup>3,4</sup> end here.<sup>5</sup>", "words[3,4] end here.[5]"),
        ("M<sup>me</sup> and n<sup>o</sup> 5 of the XX<sup>e</sup>", "Mme and no 5 of the XXe"),
        ("Ca<sup>2+</sup> and 2<sup>n+1</sup> and log<sub>2</sub>", "Ca^2+ and 2^(n+1) and log_2"),
        ("soft&shy;hyphens go", "softhyphens go"),
        ("a <map name=m>map with words</map> keeps them", "a map with words keeps them"),
    ],
)  # fmt: skip
def test_what_stands_in_a_sentence_stays_in_it(markup, text):
    assert kept(f"<p>{LONG}{markup} {LONG}</p>") == f"{LONG}{text} {LONG}".strip()


def test_centred_lines_are_lines():
    assert "nobody looks up.\n\nThe quick" in kept(f"<center>{LONG}</center><center>{LONG}</center>")


LINES = "def f(x):\n    if x:\n\n        return 1\n    return 2"
NUMBERS = range(9, 14)


def numbers(form: str, gap: str = "\n") -> str:
    return gap.join(form.format(n) for n in NUMBERS)


def lines(form: str, gap: str = "") -> str:
    """Lines of code with their numbers in some markup: `{0}` is the number, `{1}` the line."""
    return gap.join(form.format(n, line) for n, line in zip(NUMBERS, LINES.split("\n"), strict=True))


def two_cells(table: str, beside: str, code: str) -> str:
    return f"<table class='{table}'><tr><td class='gutter linenos'>{beside}</td><td class=code>{code}</td></tr></table>"


LISTINGS = {
    "hexo": two_cells(
        "", f"<pre>{numbers('<span>{}</span>', '<br>')}</pre>", f"<pre>{lines('<span>{1}</span>', '<br>')}</pre>"
    ),
    "rouge": "<pre><code>"
    + two_cells("rouge-table", f"<pre>{numbers('{}')}</pre>", f"<pre>{LINES}</pre>")
    + "</code></pre>",
    "pygments": two_cells(
        "highlighttable", f"<div class=linenodiv><pre>{numbers('{}')}</pre></div>", f"<div><pre>{LINES}</pre></div>"
    ),
    "pygments in line": f"<pre>{lines('<span class=linenos>{0:2}</span>{1}', chr(10))}</pre>",
    "chroma": two_cells(
        "lntable",
        "<pre><code>" + numbers("<span class=lnt>{}\n</span>", "") + "</code></pre>",
        "<pre><code>" + lines("<span class=line><span class=cl>{1}\n</span></span>") + "</code></pre>",
    ),
    "chroma in line": f"<pre>{lines('<span class=line><span class=ln>{0}</span>{1}</span>', chr(10))}</pre>",
    "github": "<table class=js-file-line-container>"
    + lines("<tr><td class=blob-num data-line-number={0}></td><td class=blob-code>{1}</td></tr>")
    + "</table>",
    "highlight.js": "<pre><code><table class=hljs-ln>"
    + lines("<tr><td><div class=hljs-ln-n>{0}</div></td><td class=hljs-ln-code>{1}</td></tr>")
    + "</table></code></pre>",
    "syntaxhighlighter": two_cells("", numbers("<div>{}</div>", ""), lines("<div class=line><code>{1}</code></div>")),
    "doxygen": '<div class="fragment">' + lines("<div class=line><span class=lineno>{0}</span>{1}</div>") + "</div>",
    "hugo": f"<pre>{lines('<span style=user-select:none>{0}</span><span>{1}</span>', chr(10))}</pre>",
    "prettify": f"<pre><ol class=linenums>{lines('<li value={0}>{1}</li>')}</ol></pre>",
    "gitlab": f"<div><div class=line-numbers>{numbers('<a>{}</a>')}</div><div><pre>{LINES}</pre></div></div>",
    "an element a line": f"<pre><code>{lines('<span class=line>{1}</span>')}</code></pre>",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LISTINGS)
def test_numbers_beside_code_go_and_its_lines_stay(mode, name):
    text = extract_text(page(f"<p>Code: {LONG}</p>{LISTINGS[name]}<p>{LONG}</p>"), "", mode)
    assert f"\n\n{LINES}\n\n" in text and "13" not in text


def test_tables_of_numbers_and_words_are_no_code():
    data = "<table class=highlight><tr><td>1</td><td>Alpha and more</td></tr><tr><td>2</td><td>Beta</td></tr></table>"
    assert kept(f"<p>{LONG}</p>{data}<p>{LONG}</p>").split("\n\n")[1] == "1 | Alpha and more\n2 | Beta"


def test_a_table_with_code_is_written_cell_by_cell():
    cells = f"<tr><td><pre>{LINES}</pre></td><td>about it</td></tr>"
    assert f"\n\n{LINES}\n\nabout it\n\n" in kept(f"<p>{LONG}</p><table>{cells}</table><p>{LONG}</p>")


def test_lists_count_as_they_say():
    def marks(markup: str) -> list[str]:
        rows = kept(f"<p>{LONG}</p>{markup}<p>{LONG}</p>").split("\n\n")[1].split("\n")
        return [line.partition("Item")[0] for line in rows]

    items = [f"Item {n}. {LONG}" for n in range(3)]
    assert marks(f"<ol start=5><li>{items[0]}<li>{items[1]}<li value=9>{items[2]}</ol>") == ["5. ", "6. ", "9. "]
    assert marks(f"<ol reversed><li>{items[0]}<li>{items[1]}<li>{items[2]}</ol>") == ["3. ", "2. ", "1. "]
    assert marks(f"<ol start=-1 reversed><li>{items[0]}<li>{items[1]}</ol>") == ["-1. ", "-2. "]
    assert marks(f"<ol type=a start=26><li>{items[0]}<li>{items[1]}</ol>") == ["z. ", "aa. "]
    assert marks(f"<ol type=I start=9><li>{items[0]}<li>{items[1]}</ol>") == ["IX. ", "X. "]
    assert marks(f"<ol start=x><div><li>{items[0]}</div><li value=''>{items[1]}</ol>") == ["1. ", "2. "]
    assert marks(f"<menu><li>{items[0]}<li>{items[1]}</menu>") == ["- ", "- "]


def test_cells_keep_their_columns():
    def rows(markup: str) -> list[str]:
        return kept(f"<p>{LONG}</p><table>{markup}</table><p>{LONG}</p>").split("\n\n")[1].split("\n")

    assert rows("<tr><th>a<th>b<th>c<tr><td rowspan=2>x1<td>1<td>2<tr><td>3<td>4<tr><td>y1<td>5<td>6") == [
        "a | b | c", "x1 | 1 | 2", "x1 | 3 | 4", "y1 | 5 | 6",
    ]  # fmt: skip
    assert rows("<tr><th colspan=2>both<th>c<tr><td>1<td>2<td>3") == ["both |  | c", "1 | 2 | 3"]
    assert rows("<tr><td>1<td rowspan=0>all<td>2<tr><td>3<td>4<tbody><tr><td>5<td>6") == [
        "1 | all | 2", "3 | all | 4", "5 | 6",
    ]  # fmt: skip
    long = "long words " * 12
    assert rows(f"<tr><td rowspan=2>{long}<td>1<tr><td>2") == [f"{long.strip()} | 1", "| 2"]


def test_spans_cannot_multiply_a_page():
    wide = b"<table>" + b"<td rowspan=0 colspan=100>x" * 2000 + b"<tr><td>y" * 2000
    assert len(extract_text(b"<p>" + LONG.encode() * 3 + wide, "", "blocks")) < 5 * len(wide)


@pytest.mark.parametrize("mode", MODES)
def test_hidden_text_is_no_content(mode):
    hidden = "".join(
        f"<{tag} {told}>HIDDEN. {LONG}</{tag.partition(' ')[0]}>"
        for tag, told in [
            ("p", "hidden"), ("p", 'style="color: red; display : NONE"'), ("div", "style=visibility:hidden"),
            ("p", 'style="visibility: collapse"'), ("p", 'hidden=""'),
        ]
    )  # fmt: skip
    shown = f"<p style='display: block'>Shown. {LONG}</p><p data-style='display:none'>Shown too. {LONG}</p>"
    text = extract_text(page(hidden + shown), "", mode)
    assert "HIDDEN" not in text and "Shown." in text and "Shown too." in text


def test_sections_that_a_script_shows_in_turn_are_content():
    """Those of one class, where they are most of the page; not consents and menus, of a class each."""

    def sections(*names: str) -> str:
        return "".join(
            f'<div class="{name}" style="display: none"><p>Section {n}. {LONG * 4}</p></div>'
            for n, name in enumerate(names)
        )

    few, many = page(sections("slide")), page(sections(*["slide"] * 12))
    apart = page(sections(*(f"service-{n}" for n in range(12))))
    nested = page(f'<div hidden class="menu">{sections(*["slide"] * 12)}</div>')
    for html, kept in ((few, False), (many, True), (apart, False), (nested, False)):
        text = extract_text(html, "", "blocks")
        assert ("Section 0." in text) == kept and "Second paragraph." in text


def test_a_page_that_a_script_shows_is_content():
    html = page("").replace(b'<div class="', b'<div style="display:none" class="', 1)
    assert "Second paragraph." in extract_text(html, "", "blocks")


@pytest.mark.parametrize(
    ("markup", "deepest"),
    [
        (b"<script>'<div>' + '<\\/div>'</script>" * 500, 0),
        (b"<!-- <div> -->" * 500 + b"<style>/* <div> */</style>" * 500, 0),
        (b"<p data-html='<div><div>' title=\"<b>\">" * 500, 0),
        (b"<ul>" + b"<li><i class='icon'/> a</li>" * 500 + b"</ul>", 5),
        (b"<div><br/><img/><input><hr>" * 3, 3),
        (b"<p>a<div>b<p>c</div>" * 500, 1),
        (b"<table>" + b"<tr><td><b>x<td>y" * 500 + b"</table>", 2),
        (b"<div><p></b></span></p>" * 500, 500),
        (b"<svg><g><path/><path/></g></svg>" * 500, 2),
        (b"<x-a><x-b></x-b></x-a>" * 500, 2),
        (b"<a name=x>" * 500, 1),
    ],
)
def test_nesting_is_that_of_the_parser(markup, deepest):
    assert depth(markup) == deepest
    assert too_deep(markup, deepest - 1) and not too_deep(markup, deepest)
