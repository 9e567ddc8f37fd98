import pytest

from stages.judging.statistics.style import FEATURES, counted, counts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain prose - with a dash, 3.14 and 2*3*4.\n3.14 again", (0, 0, 0)),
        ("# Title\n\n- one\n* two\n• three\n1. four\n2) five\n a. six\n", (6, 1, 0)),
        ("### Deep\n#no space is no header\n**bold** and __bold__ and *italic*", (0, 1, 2)),
        ("```\n# comment\n- x\n**y**\n```\n- real", (1, 0, 0)),
        ("- **Bold item**\n-\n\n", (1, 0, 1)),
        ("", (0, 0, 0)),
    ],
)
def test_counts(text: str, expected: tuple[int, int, int]) -> None:
    assert tuple(counts(text)[name] for name in FEATURES) == expected


def test_columns_of_a_side() -> None:
    columns = counted(["- a\n- b", "# c"], "output")
    assert {name: values.tolist() for name, values in columns.items()} == {
        "lists_output": [2, 0],
        "headers_output": [0, 1],
        "bold_output": [0, 0],
    }
