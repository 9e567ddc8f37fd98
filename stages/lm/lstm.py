"""An LSTM language model (Hochreiter & Schmidhuber 1997) with the decoder's interface: the comparison of the ladder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.base.errors import ParamError
from stages.lm.config import ModelConfig
from stages.lm.layout import Layout
from stages.lm.transformer import RMSNorm, empty_embedding


class LSTMLanguageModel(nn.Module):
    """Token ids [B, T] → hidden states [B, T, C] → logits [B, T, V]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = empty_embedding(config)
        self.lstm = nn.LSTM(config.d_model, config.d_model, config.n_layer, batch_first=True)
        for name, weight in self.lstm.named_parameters():
            if weight.ndim == 2 and name.startswith("weight"):
                weight.splits = (config.d_model,) * 4  # type: ignore[attr-defined]  # the four gates
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        if not config.tie_embeddings:
            self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix [V, C]."""
        return self.embed_tokens.weight if self.config.tie_embeddings else self.lm_head.weight

    def hidden(self, tokens: Tensor, documents: Tensor | None = None, layout: Layout | None = None) -> Tensor:
        """Hidden states after the final norm, [B, T, C]. `documents` raises ParamError: torch.nn.LSTM can't reset a
        row's state on the way. `layout`: a single row holds sequences end to end.
        """
        if documents is not None:
            raise ParamError("an LSTM carries its state from document to document: switch `document_mask` off for it")
        x = self.embed_tokens(tokens)
        return self.norm(self.lstm(x)[0] if layout is None else self._by_segment(x, layout))

    def _by_segment(self, x: Tensor, layout: Layout) -> Tensor:
        """Each segment goes on from the state that its prefix has left."""
        states: dict[int, tuple[Tensor, Tensor]] = {}
        parts = []
        for one in layout.segments:
            before = states[one.prefix_start] if one.prefix else None
            part, states[one.start] = self.lstm(x[:, one.start : one.end], before)
            parts.append(part)
        return torch.cat(parts, dim=1)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head_weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))
