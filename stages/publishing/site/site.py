"""What `trainyard publish` puts into its folder: the pages and files of reports/, cards, the chain of each row, and
where all of it comes from."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stages.base.errors import InputError
from stages.base.files import sha256_file, write_json
from stages.base.params import parse
from stages.base.store import git
from stages.publishing.cards.card import Card, markdown, view
from stages.publishing.cards.costs import Cost, assumptions, costs, grid, judge_usd, span, together
from stages.publishing.cards.data import data_card, licence_table
from stages.publishing.cards.legal import legal_record
from stages.publishing.cards.model import model_card, published_models
from stages.publishing.claims.figures import duration
from stages.publishing.html.numbers import count
from stages.publishing.html.page import render
from stages.publishing.html.site import SiteParams
from stages.publishing.lineage.audit import Audit, audit_chain, readable_records
from stages.publishing.lineage.chain import AGREEMENT, BOARD, LEADERBOARD, judged_models, row_chain
from stages.publishing.lineage.page import page_text, stage_ids
from stages.publishing.lineage.project import Project
from stages.publishing.lineage.records import Graph
from stages.publishing.site.folder import MADE_BY, MARKER, broken_links, published
from stages.publishing.site.repeated import CLAIMS, STYLE, claims_archive, linked, of_a_claim, stylesheet

REPORTS = "reports"
OF_A_ROW = (BOARD, LEADERBOARD, AGREEMENT)  # read every row; a row's page tells of what they read of it alone
KINDS = (".html", ".csv", ".json", ".md")
COUNTED = 3_000_000  # bytes; GitHub Pages takes 1 GB, a reader's patience less
WEB = re.compile(r"(?:https://(?:[^/@]*@)?|git@|ssh://git@)(?P<host>[\w.-]+)[:/](?P<path>[\w./~-]+?)(?:\.git)?/?")


@dataclass
class Site:
    """What was published."""

    files: dict[str, int] = field(default_factory=dict)
    """Path → bytes."""
    unchecked: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(self.files.values())

    def big(self) -> list[str]:
        """Where the bytes are, by folder of the site, most first."""
        groups: dict[str, int] = {}
        for path, size in self.files.items():
            name = f"{path.split('/')[0]}/" if "/" in path else path
            groups[name] = groups.get(name, 0) + size
        return [f"{name} {size / 1e6:.2f} MB" for name, size in sorted(groups.items(), key=lambda one: -one[1])]


def publish(project: Project, folder: Path, owner: str = "") -> Site:
    """Write the site. `owner`: namespace on the Hub under which cards name each other.

    Raises InputError where there are no pages, where records and files contradict each other, where a link leads
    nowhere, or where `folder` holds anything else.
    """
    site = parse("publishing.site", (project.params or {}).get("publishing", {}).get("site"), SiteParams)
    reports = _reports(project.root)
    audit = Audit()
    graph = Graph(readable_records(project, audit))
    judged = any(record.stage == LEADERBOARD for record in graph.records)
    rows = judged_models(graph) if judged else []
    revision = git("rev-parse", "HEAD", folder=project.root)
    edited = git("status", "--porcelain", "--", ".", folder=project.root)
    with published(folder) as new:
        origins = {
            name: _copy(path, new / name, name, rows, revision)
            for name, path in reports.items()
            if not of_a_claim(name)
        }
        if archive := claims_archive(reports):
            (new / CLAIMS).write_bytes(archive)
            origins[CLAIMS] = {"made_from": f"{REPORTS}/claims/*.json"}
        _lineage(new, rows, graph, project, audit)
        if audit.wrong:
            more = f" (and {len(audit.wrong) - 1} more)" if len(audit.wrong) > 1 else ""
            raise InputError(f"{audit.wrong[0]}{more}: records and files contradict; `trainyard verify` lists all")
        legal = legal_record(project)
        data = data_card(project, graph, legal, site.title, revision)
        models = [
            model_card(project, graph, key, legal.languages, owner, revision) for key in published_models(project)
        ]
        cards = [*models, *([data] if data is not None else [])]
        pages = ["index", *site.pages]
        bar = {"title": site.title, "page": "provenance", "pages": [one for one in pages if f"{one}.html" in reports]}
        if "index" not in bar["pages"]:
            bar["pages"] = ["index", *bar["pages"]]
        for card in cards:
            _write(new / "cards" / f"{card.name}.md", markdown(card))
            page = render(_card_view(card) | bar | {"root": "../"}, "card.html")
            _write(new / "cards" / f"{card.name}.html", linked(page, "../"))
        if legal.terms:
            table = licence_table(legal)
            _write(new / "legal.csv", _csv(table.head, table.rows))
        _write(new / STYLE, stylesheet())
        _write(new / ".nojekyll", "")
        files = {path.relative_to(new).as_posix(): path for path in sorted(new.rglob("*")) if path.is_file()}
        facts: dict[str, dict[str, Any]] = {
            name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)} | origins.get(name, {})
            for name, path in files.items()
            if name != ".nojekyll"
        }
        told = {
            "revision": revision or "unknown",
            "revision_link": _web_address(project.root, revision),
            "edited": _edited(edited),
            "checked": f"{audit.summary}; {_unchecked(audit)}",
            "cards": [{"name": card.name, "title": card.title, "kind": card.kind} for card in cards],
            "rows": rows,
            "lead": f"{count(len(facts))} files, made from the records of one run and checked against them.",
            "files_line": "A page of reports/ stands here with one line more; the hash of its original is in the JSON.",
            "files": [
                {"path": name, "link": quote(name), "bytes": count(one["bytes"]), "sha256": one["sha256"][:16]}
                for name, one in facts.items()
            ],
            **_cost_view(project, graph),
        }
        text = linked(render(told | bar | {"sections": SECTIONS}, "provenance.html"), "")
        for name in ("provenance.html", *(["index.html"] if "index.html" not in reports else [])):
            _write(new / name, text)
            facts[name] = {"bytes": len(text.encode()), "sha256": sha256_file(new / name)}
        write_json(
            new / MARKER,
            {
                "made_by": MADE_BY,
                "revision": revision,
                "edited": edited.splitlines(),
                "files": dict(sorted(facts.items())),
                "not_checked": audit.unchecked_lines(),
            },
        )
        for page, link in broken_links(new):
            raise InputError(
                f"{REPORTS}/{page}: its link `{link}` leads nowhere; make that page, or take it out of "
                "`publishing.site.pages` and rerun `dvc repro`"
            )
        sizes = {path.relative_to(new).as_posix(): path.stat().st_size for path in new.rglob("*") if path.is_file()}
    return Site(sizes, audit.unchecked_lines())


SECTIONS = [
    ("revision", "Revision"),
    ("cards", "Cards"),
    ("lineage", "Lineage"),
    ("cost", "Cost and carbon"),
    ("files", "Files"),
]


def _reports(root: Path) -> dict[str, Path]:
    """Path on the site → file of reports/. Raises InputError where there is no page."""
    folder = root / REPORTS
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.suffix in KINDS
    }
    found = {name: path for name, path in found.items() if not name.startswith("lineage/")}  # made anew
    if not any(name.endswith(".html") for name in found):
        raise InputError(f"{folder}: no page to publish; `dvc repro` makes them")
    return found


def _copy(source: Path, target: Path, name: str, rows: Sequence[str], revision: str) -> dict[str, str]:
    """Copy a file; a page gets a line that leads to its provenance, and the leaderboard links to the rows' chains."""
    content = source.read_bytes()
    if name.endswith(".html"):
        root = "../" * name.count("/")
        text = linked(content.decode("utf-8"), root)
        at = escape(revision[:12]) or "unknown"
        link = f'<a href="{root}provenance.html">cards, lineage, cost and files</a>'
        line = f"<br>Published from revision {at}: {link}."
        if name == "claims.html" or name.startswith("claims/"):
            line += f' Every number, a line a claim: <a href="{root}{CLAIMS}">{CLAIMS}</a>.'
        text = text.replace("</footer>", f"{line}</footer>", 1)
        if name == "leaderboard.html":
            for row in rows:
                shown = escape(row)
                old = f'<span class="name">{shown}</span>'
                text = text.replace(old, f'<a class="name" href="lineage/{quote(row)}.html">{shown}</a>')
        content = text.encode("utf-8")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return {"made_from": f"{REPORTS}/{name}", "made_from_sha256": sha256_file(source)}


def _lineage(new: Path, rows: Sequence[str], graph: Graph, project: Project, audit: Audit) -> None:
    """lineage/<row>.html of each row; what the chains have in common is checked once."""
    seen: set[str] = set()
    told: dict[str, str] = {}  # stages that the first row's page tells of
    for row in rows:
        nodes, broken = row_chain(row, graph)
        own = Audit()
        own.add(broken)
        audit_chain(nodes, graph, project, own)
        page = page_text(row, nodes, own, project, {k: link for k, link in told.items() if k in nodes})
        _write(new / "lineage" / f"{row}.html", linked(page, "../"))
        if not told:
            first = f"{quote(row)}.html"
            shared = {
                name: place for name, place in stage_ids(nodes).items() if nodes[name].record.stage not in OF_A_ROW
            }
            told = {name: f"{first}#{place}" for name, place in shared.items()}
        audit.add(own.wrong)
        audit.unchecked += own.unchecked
        fresh = [node for name, node in nodes.items() if name not in seen]
        seen.update(nodes)
        audit.stages += len(fresh)
        audit.files += sum(len(node.record.outputs) for node in fresh)


def _card_view(card: Card) -> dict[str, Any]:
    told = view(card)
    return told | {
        "sections": [
            ("metadata", "Metadata"),
            *((part["id"], part["title"].split(": ")[-1]) for part in told["parts_of_card"]),
        ]
    }


def _cost_view(project: Project, graph: Graph) -> dict[str, Any]:
    """Cost by phase and in all, of the stages that have a clock reading here."""
    found = costs(project, [record.label for record in graph.records])
    kg, judged = grid(project), judge_usd(project)
    head = ["Stage", "CPU time", "Wall time", "GPU-hours", "Peak memory, MiB", "Energy, Wh (range)"]
    head += ["CO2eq, g (range)"] * (kg is not None)

    def cells(one: Cost) -> list[str]:
        times = [duration(one.cpu), duration(one.wall), f"{one.gpu_hours:.2g}", f"{one.peak_mib:.0f}"]
        carbon = [_scaled(one, 1000 * kg[0], "").strip()] if kg else []
        return [one.stage, *times, _scaled(one, 1000, ""), *carbon]

    phases: dict[str, list[Cost]] = {}
    for one in found:
        phases.setdefault(one.stage.partition(".")[0], []).append(one)
    rows = [cells(together(parts, f"{phase}, all {len(parts)}")) for phase, parts in phases.items() if len(parts) > 1]
    rows += [cells(one) for one in sorted(found, key=lambda one: -one.cpu)]
    total = together(found, "all")
    tiles = [
        {"value": duration(total.cpu), "label": f"CPU time of {len(found)} of {len(graph.records)} stage instances"},
        {"value": f"{1000 * total.kwh[1]:.3g} Wh", "label": f"energy, {_ends(total, 1000)} by assumption"},
    ]
    tiles += [{"value": f"{1000 * total.kwh[1] * kg[0]:.3g} g", "label": "CO2eq, by assumption"}] if kg else []
    judge = ""
    if judged is not None:
        dollars, simulated = judged
        paid = "; the annotators are simulated and cost nothing" if simulated else ""
        judge = (
            f"The judge's verdicts of the leaderboard cost {dollars:.2f} US dollars, by its own count of tokens{paid}."
        )
    return {
        "costs": {"head": head, "rows": rows, "numeric": list(range(1, len(head)))},
        "totals": tiles,
        "assumptions": assumptions(project),
        "judge": judge,
    }


def _scaled(one: Cost, factor: float, unit: str) -> str:
    return span(one.kwh, factor, unit).replace("  ", " ")


def _ends(one: Cost, factor: float) -> str:
    low, _, high = one.kwh
    return f"{low * factor:.2g} to {high * factor:.2g}"


def _edited(status: str) -> str:
    """git's status in one sentence; "" where nothing differs."""
    paths = [line.split(maxsplit=1)[-1] for line in status.splitlines()]  # `git` strips the first line
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"{', '.join(paths[:3])}{more}" if paths else ""


def _unchecked(audit: Audit) -> str:
    found = len({one.path for one in audit.unchecked})
    return f"{count(found)} could not be checked" if found else "all could be checked"


def _web_address(root: Path, revision: str) -> str:
    """Of the revision where the repository is on the web, without name or password; "" where it isn't."""
    found = WEB.fullmatch(git("remote", "get-url", "origin", folder=root))
    return f"https://{found['host']}/{found['path']}/commit/{revision}" if found and revision else ""


def _csv(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([name.lower().replace(" ", "_") for name in head])
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])
    return buffer.getvalue()


def _cell(cell: str) -> str:
    """Numbers without their commas; a text that a spreadsheet would compute becomes text."""
    plain = cell.replace(",", "")
    return plain if plain.isdigit() else f"'{cell}" if cell[:1] in ("=", "+", "-", "@") else cell


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
