"""Datasets of the Hugging Face hub by name, and local folders that are datasets: their rows, streamed.

Only what is asked for is fetched. Where they come from is the hub's own settings: `HF_ENDPOINT` names a mirror,
`HF_TOKEN` opens gated and private datasets.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from stages.base.compressed import inflated_zstd
from stages.base.errors import InputError
from stages.base.params import Section

ADDRESS = "https://huggingface.co/datasets"
Text = Annotated[str, StringConstraints(min_length=1)]


class HubDataset(Section):
    """A dataset of the hub, or a local folder that is one, and which of its rows."""

    path: Text
    """A local folder that is a dataset; with `name`, what DVC watches in its stead (data/check/packages.json)."""
    name: Text | None
    """Of the dataset on the hub; null: it is the folder."""
    config: Text | None
    """Which of the dataset's configurations; null for its only one."""
    split: Text
    """Of the dataset: train, …"""
    revision: Text | None
    """A commit of the dataset, so that a rerun reads the same rows."""
    data_files: Annotated[list[Text], Field(min_length=1)] | None
    """Files of the dataset to read; null: all."""
    limit: Annotated[int, Field(ge=1)] | None
    """Rows, the first ones; null: all."""

    @property
    def place(self) -> str:
        """What stands for the dataset in messages."""
        return f"hub dataset {self.name}" if self.name else self.path

    @property
    def address(self) -> str:
        """Of a local folder, its name and not the path to it."""
        return f"{ADDRESS}/{self.name}" if self.name else f"file:///{Path(self.path).absolute().name}"


def read_rows(dataset: HubDataset) -> Iterator[dict[str, Any]]:
    """The rows, in order. Raises InputError naming the dataset and the row at which it broke off: no such name,
    configuration or split, one that is gated, a server that fails or doesn't send what it announced, damaged files."""
    if dataset.name is None and not Path(dataset.path).is_dir():
        raise InputError(f"{dataset.path}: no folder; set `name` to read a dataset of the hub")
    import datasets
    from fsspec.compression import register_compression

    # The readers of fsspec take a zstd file that is cut off for a whole one.
    register_compression("zstd", lambda raw, mode="rb", **_: inflated_zstd(raw), "zst", force=True)
    number = 0
    try:
        stream = datasets.load_dataset(
            dataset.name or dataset.path, dataset.config, split=dataset.split, revision=dataset.revision,
            streaming=True, **({"data_files": dataset.data_files} if dataset.data_files else {}),
        )  # fmt: skip
        for row in itertools.islice(iter(stream), dataset.limit):
            yield dict(row)
            number += 1
    except Exception as error:  # the datasets library has no common base of its errors
        reason = " ".join(str(error).split())[:300]
        told = f"{dataset.place}: after {number:,} rows: {type(error).__name__}: {reason}"
        raise InputError(told + _remedy(dataset, error)) from None


def _remedy(dataset: HubDataset, error: BaseException) -> str:
    """What helps, where the hub says that it doesn't have or doesn't give the dataset."""
    names = set()
    cause: BaseException | None = error
    while cause is not None:
        names.add(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if "GatedRepoError" in names or "gated" in str(error):
        return f"; accept its terms at {dataset.address} and set HF_TOKEN to a token of yours"
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"}:
        return "; check `name`; a private dataset needs HF_TOKEN"
    return ""
