"""What a source hands to ingest: pages as they were found, what is wrong with them, and where they stood."""

from dataclasses import dataclass

DAMAGE = frozenset(("damaged", "bad_digest", "bad_encoding"))  # bytes lost or changed since the source was written


@dataclass(frozen=True)
class Raw:
    """A page as its source gives it, or what stands where a page should be."""

    url: str
    html: bytes
    licence: str = ""
    opt_out: str = ""  # signals of the HTTP headers, as in PAGE
    problem: str = ""  # "" or the reason why it can't be used
    where: str = ""  # file@offset or file:line
    detail: str = ""  # of the problem
    remarks: tuple[str, ...] = ()  # wrong_charset, nul_bytes: worth counting, no reason to drop


def remarks(page: bytes, known: bool) -> tuple[str, ...]:
    """What is worth counting about a page; `known`: its charset is what it should be."""
    return ("wrong_charset",) * (not known) + ("nul_bytes",) * (b"\0" in page)
