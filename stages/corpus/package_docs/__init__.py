"""The documentation of the installed packages as a crawl of HTML pages, read without importing the packages."""
