"""Where an answer ends: strings, which need not be whole tokens, and the tokens that a model's folder names."""

from pathlib import Path

from stages.base.files import read_json
from stages.lm.chat import ChatTokenizer

SLACK = 4  # tokens more than a stop has bytes: those of a character that is cut in two


class Stop:
    """Any of some strings. An answer ends before the first of them, as with `until` of the LM Evaluation Harness."""

    def __init__(self, strings: tuple[str, ...], tokenizer: ChatTokenizer) -> None:
        self.strings, self.tokenizer = tuple(filter(None, strings)), tokenizer
        self.span = SLACK + max((len(string.encode()) for string in self.strings), default=0)

    def __call__(self, answer: list[int]) -> bool:
        """Whether the newest token has completed one; a token is at least a byte, so the last few hold all of it."""
        return bool(self.strings) and self.cut(self.tokenizer.decode(answer[-self.span :]))[1]

    def cut(self, text: str) -> tuple[str, bool]:
        """The text before the first stop, and whether there is one."""
        first = min((place for string in self.strings if (place := text.find(string)) >= 0), default=-1)
        return (text, False) if first < 0 else (text[:first], True)


def stop_ids(folder: Path) -> list[int]:
    """`eos_token_id` of a folder's `generation_config.json`, which generation by transformers ends with."""
    path = folder / "generation_config.json"
    named = read_json(path).get("eos_token_id") if path.is_file() else None
    return named if isinstance(named, list) else [] if named is None else [named]
