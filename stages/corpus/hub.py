"""Datasets of the Hugging Face hub, streamed: only the rows that are asked for are fetched."""

from collections.abc import Iterator
from itertools import islice

from stages.base.errors import InputError
from stages.corpus.files_source import as_page


def read_hub(
    name: str, config: str | None, split: str, revision: str | None, column: str, limit: int
) -> Iterator[tuple[str, bytes]]:
    """(URL, page) of the first `limit` rows. Raises InputError naming the dataset if it can't be streamed."""
    import datasets

    try:
        stream = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
        for number, row in enumerate(islice(iter(stream), limit)):
            yield as_page(dict(row), f"https://huggingface.co/datasets/{name}#{split}-{number}", column)
    except InputError:
        raise
    except Exception as error:  # the datasets library has no common base of its errors
        raise InputError(f"hub dataset {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
