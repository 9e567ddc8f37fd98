"""The text of an answer while its tokens arrive: whole characters only, and nothing that may become a stop string."""

from collections.abc import Callable, Sequence

BROKEN = "\ufffd"  # what the bytes of an unfinished character decode to


class GrowingText:
    """`add` returns what can be shown; the pieces and `end` together are the answer, cut before the first stop string.

    decode: ids → text. Only the last few tokens are decoded at a time, beside those before them, on which their text
    may depend (white space at a word's beginning).
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, [stop for stop in stops if stop]
        self._ids: list[int] = []
        self._before, self._read = 0, 0  # ids[before:read] are decoded again, as the context of ids[read:]
        self._held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        self._ids.append(token)
        known = self._decode(self._ids[self._before : self._read])
        text = self._decode(self._ids[self._before :])
        if len(text) <= len(known) or text.endswith(BROKEN):
            return ""
        self._before, self._read = self._read, len(self._ids)
        return self._show(text[len(known) :])

    def end(self) -> str:
        """What is left when no token follows."""
        if self.stopped:
            return ""
        known = self._decode(self._ids[self._before : self._read])
        shown = self._show(self._decode(self._ids[self._before :])[len(known) :])
        rest, self._held = self._held, ""
        return shown + rest

    def _show(self, piece: str) -> str:
        text = self._held + piece
        found = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, without being all of it."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
