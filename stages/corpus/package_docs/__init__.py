"""The documentation of the installed packages as a crawl of HTML pages, read without importing the packages."""

from stages.corpus.package_docs.params import PARAMS

__all__ = ["PARAMS"]
