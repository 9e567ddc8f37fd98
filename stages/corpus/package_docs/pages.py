"""Pages of a documentation site: which objects share a page, and the page as HTML with the site's furniture."""

from dataclasses import dataclass
from html import escape

from stages.corpus.package_docs.locate import Package
from stages.corpus.package_docs.markup import Resolve, to_html
from stages.corpus.package_docs.read import Entry, Module

SITE = "https://docs.trainyard.invalid"


@dataclass(frozen=True)
class Page:
    package: Package
    module: str
    title: str
    url: str
    doc: str  # the module's docstring, on the first page of a module only
    entries: tuple[Entry, ...]

    @property
    def chars(self) -> int:
        return len(self.doc) + sum(entry.chars for entry in self.entries)


def home(package: Package) -> str:
    return f"{SITE}/{package.name}/{package.site_version}/index.html"


def plan(package: Package, module: Module, max_chars: int) -> list[Page]:
    """The pages of a module: objects in source order, a large object alone, the others together up to `max_chars`."""
    groups: list[list[Entry]] = [[]]
    alone: list[Entry] = []
    size = len(module.doc)
    for entry in module.entries:
        if entry.chars > max_chars / 2 and len(module.entries) > 1:
            alone.append(entry)
            continue
        if size and size + entry.chars > max_chars:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry.chars
    pages = []
    stem = _stem(package, module)
    for number, entries in enumerate(groups, 1):
        if number == 1 and not entries and not module.doc:
            continue
        suffix = "" if number == 1 else f"-{number}"
        title = module.name if number == 1 else f"{module.name}, part {number}"
        doc = _shorten(module.doc, max_chars) if number == 1 else ""
        pages.append(Page(package, module.name, title, f"{_folder(package)}{stem}{suffix}.html", doc, tuple(entries)))
    for entry in alone:
        url = f"{_folder(package)}{stem}.{entry.name}.html"
        pages.append(Page(package, module.name, f"{module.name}.{entry.name}", url, "", (_fit(entry, max_chars),)))
    return pages


def _folder(package: Package) -> str:
    return f"{SITE}/{package.name}/{package.site_version}/"


def _stem(package: Package, module: Module) -> str:
    """`numpy._core.fromnumeric` → `core.fromnumeric`, `numpy` → `numpy`: no module shares its stem with another."""
    inner = module.source.removeprefix(f"{package.name}.")
    return ".".join(part.lstrip("_") or "_" for part in inner.split("."))


def _fit(entry: Entry, max_chars: int) -> Entry:
    """An object cut to size: its own text at a paragraph's end, then as many members as fit."""
    doc = _shorten(entry.doc, max_chars)
    left, members = max_chars - len(doc), []
    for member in entry.members:
        if member.chars > left:
            break
        members.append(member)
        left -= member.chars
    return Entry(entry.name, entry.kind, entry.signature, doc, tuple(members))


def _shorten(doc: str, max_chars: int) -> str:
    if len(doc) <= max_chars:
        return doc
    cut = doc.rfind("\n\n", 0, max_chars)
    return doc[: cut if cut > 0 else max_chars]


def object_urls(pages: list[Page]) -> dict[str, str]:
    """Dotted public name → URL, for links between pages; of several pages the first one documents the name."""
    urls: dict[str, str] = {}
    for page in pages:
        urls.setdefault(page.module, page.url)
        for entry in page.entries:
            urls.setdefault(f"{page.module}.{entry.name}", page.url)
            for member in entry.members:
                urls.setdefault(f"{page.module}.{member.name}", page.url)
    return urls


def resolver(page: Page, urls: dict[str, str]) -> Resolve:
    """Look a mentioned name up as it stands, then below the page's module and the modules above it."""
    parts = page.module.split(".")

    def resolve(name: str) -> str | None:
        for depth in range(len(parts), -1, -1):
            found = urls.get(".".join([*parts[:depth], name]))
            if found is not None:
                return None if found == page.url else found
        return None

    return resolve


def _entry_html(entry: Entry, level: int, resolve: Resolve) -> str:
    parts = [
        f'<section id="{escape(entry.name)}">',
        f"<h{level}>{escape(entry.name)}</h{level}>",
        f'<pre class="signature"><code>{escape(entry.signature, quote=False)}</code></pre>',
        to_html(entry.doc, level + 1, resolve),
        *(_entry_html(member, level + 1, resolve) for member in entry.members),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def render(page: Page, siblings: list[Page], urls: dict[str, str]) -> bytes:
    """The page as a documentation site shows it."""
    resolve = resolver(page, urls)
    parts = page.module.split(".")
    crumbs = [
        f'<a href="{escape(urls[name])}">{escape(part)}</a>'
        if (name := ".".join(parts[: i + 1])) in urls
        else escape(part)
        for i, part in enumerate(parts)
    ]
    sidebar = "\n".join(f'<li><a href="{escape(other.url)}">{escape(other.title)}</a></li>' for other in siblings)
    contents = "\n".join(f'<li><a href="#{escape(e.name)}">{escape(e.name)}</a></li>' for e in page.entries)
    body = "\n".join(
        part
        for part in (
            f"<section>\n{to_html(page.doc, 2, resolve)}\n</section>" if page.doc else "",
            *(_entry_html(entry, 2, resolve) for entry in page.entries),
        )
        if part
    )
    package = page.package
    html = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{escape(page.title)} - {escape(package.name)} {escape(package.site_version)} documentation</title>
<link rel="stylesheet" href="/static/site.css">
<script src="/static/search.js"></script>
</head>
<body>
<header class="site-header"><a href="{SITE}/index.html">All packages</a>
<a href="{home(package)}">{escape(package.name)}</a><nav class="navbar"><ul><li><a href="/search.html">Search</a></li>
<li><a href="/genindex.html">Index</a></li></ul></nav></header>
<div class="version-notice" role="note">You are reading the documentation of version {escape(package.version)}.</div>
<nav class="breadcrumbs" aria-label="breadcrumb">{" &raquo; ".join(crumbs)}</nav>
<nav class="sidebar"><h4>Related pages</h4><ul>
{sidebar}
</ul><h4>On this page</h4><ul>
{contents}
</ul></nav>
<main><article>
<h1>{escape(page.title)}</h1>
{body}
</article></main>
<footer class="site-footer"><p>{escape(package.name)} {escape(package.version)}. Licence: {escape(package.licence)}.
<a href="/copyright.html">Copyright</a></p></footer>
</body>
</html>
"""
    return html.encode("utf-8", "ignore")
