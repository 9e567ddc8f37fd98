"""Good pages under addresses whose owners reserve them, or give them out under a licence that isn't free."""

from dataclasses import replace

from stages.corpus.atlas.pages import SITE, Fault, Page
from stages.corpus.atlas.params import PlantCounts

QUIET, SILENT, WALLED, STUDIO = (
    f"https://{name}.trainyard.invalid" for name in ("quiet", "silent", "walled", "studio")
)
META = '\n<meta name="robots" content="index, noai, noimageai">'
HEADER = "x-robots-tag:noai"
RULES = """# The reading room welcomes readers and search engines.
User-agent: GPTBot
User-agent: CCBot
User-agent: Google-Extended
Disallow: /

User-agent: *
Disallow: /desk/
Allow: /
"""
ROBOTS_FILES = {
    WALLED.removeprefix("https://"): RULES,
    SITE.removeprefix("https://"): "User-agent: *\nDisallow:\n",
}  # by host
LICENCE, LICENCE_URL = "CC-BY-NC-4.0", "https://creativecommons.org/licenses/by-nc/4.0/"


def reserved(pages: list[Page], order: list[int], plants: PlantCounts) -> list[Fault]:
    """Mirrors of the last pages of the order, of which no other plant is a copy."""
    free = [pages[index] for index in reversed(order)]
    faults = []
    for number, page in enumerate(free[: plants.opt_out_pages]):
        owner, signal = ((QUIET, "meta:noai"), (SILENT, HEADER), (WALLED, "robots.txt"))[number % 3]
        mirror = replace(page, url=page.url.replace(SITE, owner), head=META if owner == QUIET else "")
        mirror = replace(mirror, opt_out=HEADER if owner == SILENT else "")
        faults.append(Fault(mirror, (("opt_out", signal),), page.url))
    for page in free[plants.opt_out_pages :][: plants.licence_pages]:
        link = f'\n<link rel="license" href="{LICENCE_URL}">'
        mirror = replace(page, url=page.url.replace(SITE, STUDIO), head=link, declared=True)
        faults.append(Fault(mirror, (("licence", LICENCE),), page.url))
    return faults
