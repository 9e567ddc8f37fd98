"""How often a source has shown a URL before: for its ids, and in 18 to 36 bytes a page."""

import hashlib
from array import array

FIRST = 1 << 10  # slots; always a power of two


class Occurrences:
    """Counts by 64-bit digest, in a hash table of 12 bytes a slot, a third to two thirds of them filled.

    A Counter takes 170 bytes and more for each URL. Two URLs with one digest count as one, which does no harm: no pair
    of a URL and its count is given twice.
    """

    def __init__(self) -> None:
        self._filled = 0
        self._make(FIRST)

    def earlier(self, url: str) -> int:
        """How often this was called with `url` before."""
        key = _digest(url)
        slot = self._slot(key)
        if not self._counts[slot]:
            self._keys[slot] = key
            self._filled += 1
        seen = self._counts[slot]
        self._counts[slot] += 1
        if 3 * self._filled > 2 * len(self._keys):
            self._double()
        return seen

    def _make(self, slots: int) -> None:
        self._keys, self._counts = array("Q", bytes(8 * slots)), array("I", bytes(4 * slots))

    def _slot(self, key: int) -> int:
        """Where a key is, or belongs."""
        last = len(self._keys) - 1
        slot = key & last
        while self._counts[slot] and self._keys[slot] != key:
            slot = (slot + 1) & last
        return slot

    def _double(self) -> None:
        keys, counts = self._keys, self._counts
        self._make(2 * len(keys))
        for key, count in zip(keys, counts, strict=True):
            if count:
                slot = self._slot(key)
                self._keys[slot], self._counts[slot] = key, count


def _digest(url: str) -> int:
    return int.from_bytes(hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def document_id(source: str, url: str, occurrence: int) -> str:
    """First 16 hex of sha256(source, url, occurrence); `occurrence` counts earlier pages of the source at this URL."""
    return hashlib.sha256(f"{source}\x1f{url}\x1f{occurrence}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
