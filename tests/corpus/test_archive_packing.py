"""Archives compressed with Zstandard, as IIPC's specification has them: dictionaries, frames to skip."""

import pytest
import zstandard

from stages.base.errors import InputError
from tests.corpus.archives import pages, read, zstd


def skippable(content: bytes, number: int = 0) -> bytes:
    return bytes((0x50 + number, 0x2A, 0x4D, 0x18)) + len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "compressed itself"])
def test_a_zstd_archive_may_have_a_dictionary_and_frames_to_skip(tmp_path, packed):
    parts = pages(6, 20_000)
    samples = [part[start : start + 500] for part in parts for start in range(0, len(part), 500)]
    given = zstandard.train_dictionary(4096, samples)
    told = given.as_bytes()
    dictionary = skippable(zstd(told) if packed else told, 13)
    frames = [zstd(part, dict_data=given) for part in parts]
    halves = [zstd(parts[1][:9000], dict_data=given), zstd(b""), zstd(parts[1][9000:], dict_data=given)]
    whole = [
        dictionary,
        frames[0],
        skippable(b"x" * 70_000),
        *halves,
        skippable(b""),
        *frames[2:],
        skippable(b"end", 4),
    ]
    found = read(tmp_path, *whole)
    assert [(raw.url, raw.problem) for raw in found] == [(f"http://a/{n}", "") for n in range(6)]
    assert [raw.html for raw in found] == [raw.html for raw in read(tmp_path, *parts)]
    damaged = bytearray(frames[3])
    damaged[len(damaged) // 2] ^= 0xFF
    found = read(tmp_path, dictionary, *frames[:3], bytes(damaged), *frames[4:])
    assert [raw.problem for raw in found] == ["", "", "", "damaged", "", ""]


def test_a_zstd_dictionary_that_can_not_be_read_is_one_line(tmp_path):
    given = zstandard.train_dictionary(
        1024, [part[start : start + 500] for part in pages(9) for start in range(0, 3000, 500)]
    )
    frames = [zstd(part, dict_data=given) for part in pages(2)]
    told = given.as_bytes()
    for dictionary, why in (
        (skippable(told, 13)[:200], "cut off"), (skippable(b"words", 13), "another form"),
        (skippable(zstd(told)[:-20], 13), "another form"), (skippable(zstd(bytes(2**24)), 13), "larger than 8 MiB"),
        (skippable(b"\x28\xb5\x2f\xfd" + bytes(range(50)), 13), "can't be read"),
        (b"\x5d\x2a\x4d\x18\xff\xff\xff\xff", "larger than"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=why):
            read(tmp_path, dictionary)
    with pytest.raises(InputError, match=r"no WARC record can be read from it \(zstd: .*[Dd]ictionary"):
        read(tmp_path, *frames)  # without the one that they were written with
