"""Addresses in a MediaWiki `externallinks` table dump (`mysqldump`), both of its schemas, a statement at a time.

Until 2023 the column `el_to` held the address; since then `el_to_domain_index` holds `https://org.example.www.` (the
host's labels reversed) and `el_to_path` the rest.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from stages.base.compressed import read_lines
from stages.base.errors import InputError

MAX_LINE = 1 << 26  # bytes; mysqldump's statements are about 1 MiB
STRING = rb"(?:_binary )?'(?:[^'\\]++|\\.|'')*+'"
VALUE = rb"(?:" + STRING + rb"|[^'(),]++)"
CREATE = re.compile(rb"CREATE TABLE `externallinks`")
INSERT = re.compile(rb"INSERT INTO `externallinks`\s*(?:\(([^)]*)\)\s*)?VALUES\s*")
COLUMN = re.compile(rb"\s*`(\w+)`")
ESCAPE = re.compile(rb"\\(.)|''", re.DOTALL)
ESCAPED = {b"0": b"\0", b"b": b"\b", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"Z": b"\x1a"}


def read_externallinks(path: Path) -> Iterator[str]:
    """http and https addresses of the table, in order, repeats and all, from a .sql, .sql.gz or .sql.bz2 dump.

    The table has the links of every namespace, talk pages too. Raises InputError, with line and byte, for a row that
    doesn't parse, for a table without the columns and for a dump without rows.
    """
    columns: list[bytes] = []
    row: re.Pattern[bytes] | None = None
    declaring = inserting = False
    for number, line in read_lines(path, MAX_LINE):
        at = 0
        if inserting:
            pass
        elif CREATE.match(line):
            declaring, columns = True, []
            continue
        elif declaring:
            found = COLUMN.match(line)
            columns += [found[1]] if found else []
            declaring = not line.startswith(b")")
            continue
        elif insert := INSERT.match(line):
            named = re.findall(rb"`(\w+)`", insert[1]) if insert[1] else columns
            row, at = _row_pattern(named, f"{path}:{number}"), insert.end()
            inserting = True
        else:
            continue
        assert row is not None
        while at < len(line):  # newer dumps put each row on a line of its own
            if not (match := row.match(line, at)):
                raise InputError(f"{path}:{number}: byte {at} of the line: not a row of {len(columns)} values")
            at = match.end()
            inserting = match["end"] == b","
            if url := _address(match):
                yield url
    if row is None:
        raise InputError(f"{path}: no rows of the table `externallinks`; is it the right dump?")
    if inserting:
        raise InputError(f"{path}:{number}: the dump ends within a statement; fetch it again")


def _row_pattern(columns: list[bytes], place: str) -> re.Pattern[bytes]:
    """A row `(…)` with its `,` or `;`, the columns of the address named."""
    if not (b"el_to" in columns or {b"el_to_domain_index", b"el_to_path"} <= {*columns}):
        raise InputError(f"{place}: `externallinks` has neither `el_to` nor `el_to_domain_index` and `el_to_path`")
    wanted = [b"el_to", b"el_to_domain_index", b"el_to_path"]
    values = [b"(?P<%s>%s)" % (name, VALUE) if name in wanted else VALUE for name in columns]
    return re.compile(rb"\s*\(" + rb"\s*,\s*".join(values) + rb"\)\s*(?P<end>[,;])", re.DOTALL)


def _address(row: re.Match[bytes]) -> str:
    """The address of a row, "" if it is none of http or https."""
    values = {name: _text(value) for name, value in row.groupdict().items() if name != "end"}
    url = values.get("el_to", "")
    if "el_to_domain_index" in values:
        url = _forwards(values["el_to_domain_index"]) + values["el_to_path"]
    if url.startswith("//"):
        return f"https:{url}"
    return url if url.lower().startswith(("http://", "https://")) else ""


def _text(literal: bytes) -> str:
    """The value of an SQL literal, "" for NULL."""
    if literal[:2] == b"0x":
        return bytes.fromhex(literal[2:].decode()).decode("utf-8", "replace")
    if not literal.endswith(b"'"):
        return ""
    inner = literal[literal.index(b"'") + 1 : -1]
    if b"\\" in inner or b"''" in inner:
        inner = ESCAPE.sub(lambda match: ESCAPED.get(match[1], match[1]) if match[1] else b"'", inner)
    return inner.decode("utf-8", "replace")


def _forwards(index: str) -> str:
    """`https://org.example.www.:8080` → `https://www.example.org:8080`."""
    scheme, _, rest = index.partition("://")
    host, colon, port = rest.partition(":")
    labels = host.strip(".").split(".")
    if labels[0] == "V4":
        host = ".".join(labels[1:])
    elif labels[0] == "V6":
        host = f"[{':'.join(labels[1:])}]"
    else:
        host = ".".join(reversed(labels))
    return f"{scheme}://{host}{colon}{port}"
