"""Datasets of the Hugging Face hub, streamed: only the rows that are asked for are fetched."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stages.base.errors import InputError
from stages.corpus.sources.raw import Raw, as_page

HUB = "https://huggingface.co/datasets"


def read_hub(
    name: str,
    config: str | None,
    split: str,
    revision: str | None,
    data_files: list[str] | None,
    column: str,
    limit: int,
) -> Iterator[Raw]:
    """The first `limit` rows of a dataset, a local folder, or `data_files` of a format (`json`).

    A row's own `url` is used where it has one; that of a local folder names the folder and not the path to it. Raises
    InputError naming the dataset, and the row at which it broke off or that has no text.
    """
    import datasets

    number = 0
    address = f"file:///{Path(name).absolute().name}" if Path(name).is_dir() else f"{HUB}/{name}"
    try:
        files = {"data_files": data_files} if data_files else {}
        stream = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True, **files)
        for row in islice(iter(stream), limit):
            url = f"{address}?split={split}&row={number}"
            yield as_page(dict(row), url, url, column)
            number += 1
    except InputError:
        raise
    except Exception as error:  # the datasets library has no common base of its errors
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"hub dataset {name}: after {number:,} rows: {type(error).__name__}: {reason}") from None
