"""Rows of datasets as pages."""

from collections.abc import Iterator

from stages.base.hub import HubDataset, read_rows
from stages.corpus.sources.raw import Raw, as_page


def read_hub(dataset: HubDataset, column: str) -> Iterator[Raw]:
    """The pages of a dataset, whose text stands in `column`; a row's own `url` is used where it has one.

    Raises InputError as `read_rows`, and for a row that has no text.
    """
    for number, row in enumerate(read_rows(dataset)):
        url = f"{dataset.address}?split={dataset.split}&row={number}"
        yield as_page(row, url, url, column)
