"""Addresses and who links to whom: canonical URLs, link graphs, Wikipedia dumps."""
