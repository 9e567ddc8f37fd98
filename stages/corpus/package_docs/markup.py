"""Docstring to HTML: numpydoc and Google sections, paragraphs, lists, doctests and literal blocks, cross-references."""

import re
from collections.abc import Callable, Iterator
from html import escape

UNDERLINE = re.compile(r"^([=\-~^\"*+#])\1{2,}\s*$")
GOOGLE = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Keyword Arguments|Keyword args|Attributes|Shape|Note|"
                    r"Notes|Example|Examples|Warning|Inputs|Outputs|Parameters|References|See Also):\s*$")  # fmt: skip
BULLET = re.compile(r"^(\s*)([*\-+•]|\d+[.)])\s+(.*)$")
DIRECTIVE = re.compile(r"^\s*\.\.\s+([\w\-]+)::\s*(.*)$")
TARGET = re.compile(r"^\s*\.\.\s+_[^:]*:.*$")  # `.. _name: address`: shown nowhere
CITATION = re.compile(r"^\s*\.\.\s+(\[[^\]]+\])\s+(.*)$")
ROLE = re.compile(r":(?:[\w\-]+:)?[\w\-]+:`([^`]+)`")
LITERAL = re.compile(r"``([^`]+)``")
NAME = re.compile(r"`([^`]+)`_?_?")
EMPHASIS = re.compile(r"(?<![\w*])\*\*?([^\s*](?:[^*\n]*[^\s*])?)\*\*?(?![\w*])")
DEFINITIONS = frozenset(("parameters", "returns", "yields", "raises", "attributes", "receives", "args")) | {
    "arguments",
    "warns",
    "other parameters",
    "keyword arguments",
    "keyword args",
}
PARAMETER = re.compile(r"^(\*{0,2}\w+)\s*(\([^)]*\))?\s*:\s*(.*)$")

Resolve = Callable[[str], str | None]  # mentioned name → URL of its page


def inline(text: str, resolve: Resolve) -> str:
    """One line of prose as HTML: roles and backticks become code, linked where the name has a page."""
    kept: list[str] = []

    def keep(name: str, link: bool) -> str:
        shown = name.split("<")[0].strip() or name
        target = resolve(re.sub(r"[<>~!()\s]", "", name.split("<")[-1])) if link else None
        code = f"<code>{escape(shown.lstrip('~!'), quote=False)}</code>"
        kept.append(f'<a href="{escape(target)}">{code}</a>' if target else code)
        return f"\x00{len(kept) - 1}\x00"

    text = ROLE.sub(lambda match: keep(match[1], True), text)
    text = LITERAL.sub(lambda match: keep(match[1], False), text)
    text = NAME.sub(lambda match: keep(match[1], True), text)
    text = escape(EMPHASIS.sub(r"\1", text), quote=False)
    return re.sub("\x00(\\d+)\x00", lambda match: kept[int(match[1])], text)


def to_html(doc: str, level: int, resolve: Resolve) -> str:
    """The body of a docstring. `level` is the heading level (1..6) of its sections."""
    out: list[str] = []
    lines = [
        CITATION.sub(r"\1 \2", line)
        for line, following in _pairs(doc.replace("\x00", "").split("\n"))
        if not TARGET.match(line) and not (UNDERLINE.match(line.strip()) and UNDERLINE.match(following.strip()))
    ]
    _blocks(lines, min(level, 6), resolve, out, 0)
    return "\n".join(out)


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each line with the line two below it: a heading between two rules loses the upper one."""
    return zip(lines, [*lines[2:], "", ""], strict=False)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block(lines: list[str], start: int, indent: int) -> int:
    """End of the lines from `start` that are blank or indented deeper than `indent`."""
    end = start
    while end < len(lines) and (not lines[end].strip() or _indent(lines[end]) > indent):
        end += 1
    return end


def _blocks(lines: list[str], level: int, resolve: Resolve, out: list[str], depth: int) -> None:
    position = 0
    while position < len(lines):
        line = lines[position]
        following = lines[position + 1] if position + 1 < len(lines) else ""
        if not line.strip():
            position += 1
        elif UNDERLINE.match(following.strip()) and not line.lstrip().startswith(">>>"):
            out.append(f"<h{level}>{inline(line.strip(), resolve)}</h{level}>")
            position = _section(line.strip().lower(), lines, position + 2, level, resolve, out, depth)
        elif GOOGLE.match(line.strip()):
            heading = line.strip().rstrip(":")
            out.append(f"<h{level}>{escape(heading)}</h{level}>")
            end = _block(lines, position + 1, _indent(line))
            body = _dedent(lines[position + 1 : end])
            if heading.lower() in DEFINITIONS:
                _google_items(body, resolve, out)
            elif depth < 4:
                _blocks(body, level, resolve, out, depth + 1)
            position = end
        elif line.lstrip().startswith(">>>"):
            end = position
            while end < len(lines) and lines[end].strip():
                end += 1
            out.append(_code(lines[position:end]))
            position = end
        elif match := DIRECTIVE.match(line):
            end = _block(lines, position + 1, _indent(line))
            body = _dedent([text for text in lines[position + 1 : end] if not re.match(r"^\s*:[\w\-]+:", text)])
            if match[1] in ("code-block", "code", "math", "plot", "testcode", "ipython", "highlight"):
                out.append(_code(([match[2]] if match[1] == "math" and match[2] else []) + body))
            elif depth < 4:
                if match[2]:
                    out.append(f"<p>{inline(match[2], resolve)}</p>")
                _blocks(body, level, resolve, out, depth + 1)
            position = end
        elif BULLET.match(line):
            position = _list(lines, position, resolve, out)
        else:
            position = _paragraph(lines, position, resolve, out)


def _section(title: str, lines: list[str], start: int, level: int, resolve: Resolve, out: list[str], depth: int) -> int:
    """A numpydoc section: definition sections become lists of definitions, the others are blocks again."""
    end = start
    while end < len(lines):
        underlined = end + 1 < len(lines) and UNDERLINE.match(lines[end + 1].strip()) and lines[end].strip()
        if underlined:
            break
        end += 1
    body = lines[start:end]
    if title in DEFINITIONS:
        _numpy_items(_dedent(body), resolve, out)
    elif depth < 4:
        _blocks(body, level, resolve, out, depth + 1)
    return end


def _numpy_items(lines: list[str], resolve: Resolve, out: list[str]) -> None:
    items: list[str] = []
    position = 0
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        end = _block(lines, position + 1, _indent(lines[position]))
        text = " ".join(part.strip() for part in lines[position + 1 : end] if part.strip())
        items.append(
            f"<dt>{inline(lines[position].strip(), resolve)}</dt>"
            + (f"<dd>{inline(text, resolve)}</dd>" if text else "")
        )
        position = end
    if items:
        out.append("<dl>\n" + "\n".join(items) + "\n</dl>")


def _google_items(lines: list[str], resolve: Resolve, out: list[str]) -> None:
    items: list[str] = []
    position = 0
    while position < len(lines):
        if not lines[position].strip():
            position += 1
            continue
        end = _block(lines, position + 1, _indent(lines[position]))
        text = " ".join(part.strip() for part in lines[position:end] if part.strip())
        match = PARAMETER.match(text)
        if match:
            term = match[1] + (f" {match[2]}" if match[2] else "")
            items.append(f"<dt>{inline(term, resolve)}</dt><dd>{inline(match[3], resolve)}</dd>")
        else:
            items.append(f"<dd>{inline(text, resolve)}</dd>")
        position = end
    if items:
        out.append("<dl>\n" + "\n".join(items) + "\n</dl>")


def _list(lines: list[str], position: int, resolve: Resolve, out: list[str]) -> int:
    items: list[str] = []
    while position < len(lines):
        match = BULLET.match(lines[position])
        if match is None:
            if not lines[position].strip() and position + 1 < len(lines) and BULLET.match(lines[position + 1]):
                position += 1
                continue
            break
        end = position + 1
        while (
            end < len(lines)
            and lines[end].strip()
            and _indent(lines[end]) > len(match[1])
            and not BULLET.match(lines[end])
        ):
            end += 1
        text = " ".join([match[3], *(part.strip() for part in lines[position + 1 : end])])
        items.append(f"<li>{inline(text, resolve)}</li>")
        position = end
    out.append("<ul>\n" + "\n".join(items) + "\n</ul>")
    return position


def _paragraph(lines: list[str], position: int, resolve: Resolve, out: list[str]) -> int:
    start, indent = position, _indent(lines[position])
    while position < len(lines) and lines[position].strip() and not lines[position].lstrip().startswith(">>>"):
        if position > start and (BULLET.match(lines[position]) or DIRECTIVE.match(lines[position])):
            break
        position += 1
    text = " ".join(part.strip() for part in lines[start:position])
    literal = text.endswith("::")
    text = text[:-1] if literal and text != "::" else text.removesuffix("::")
    if text:
        out.append(f"<p>{inline(text, resolve)}</p>")
    if literal:
        end = _block(lines, position, indent)
        out.append(_code(lines[position:end]))
        return end
    return position


def _dedent(lines: list[str]) -> list[str]:
    margin = min((_indent(line) for line in lines if line.strip()), default=0)
    return [line[margin:] for line in lines]


def _code(lines: list[str]) -> str:
    return f"<pre><code>{escape(chr(10).join(_dedent(lines)).strip(chr(10)), quote=False)}</code></pre>"
