"""The small project of the lineage tests, judged and published by the real stages."""

from tests.publishing.lineage.conftest import made, project

__all__ = ["made", "project"]
