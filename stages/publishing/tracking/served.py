"""MLflow's loader of a registered model: `load_model(...).predict(prompts)` answers greedily, as the judged one did."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_NEW_TOKENS = 128


class Answerer:
    """What MLflow calls a python function."""

    def __init__(self, folder: Path) -> None:
        from stages.lm.chat import load_tokenizer
        from stages.lm.checkpoint import load_model

        self.model, self.tokenizer = load_model(folder), load_tokenizer(folder)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> list[str]:
        """Answers to prompts: a list, or a table whose first column they are. params: `max_new_tokens`."""
        from stages.lm.generate import generate

        prompts: Iterable[Any] = data.iloc[:, 0] if hasattr(data, "iloc") else [data] if isinstance(data, str) else data
        ids = [self.tokenizer.encode_prompt(str(prompt)) for prompt in prompts]
        limit = int((params or {}).get("max_new_tokens", MAX_NEW_TOKENS))
        room = self.model.config.max_seq_len - max(map(len, ids), default=0)
        answers = generate(
            self.model,
            ids,
            max_new_tokens=max(1, min(limit, room)),
            temperature=0.0,
            top_p=1.0,
            seed=0,
            stop_ids=self.tokenizer.stop_ids,
        )
        return [self.tokenizer.decode(tokens) for tokens in answers]


def _load_pyfunc(path: str) -> Answerer:
    return Answerer(Path(path))
