"""An LSTM language model (Hochreiter & Schmidhuber 1997) with the decoder's interface: the comparison of the ladder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stages.base.errors import ParamError
from stages.lm.config import ModelConfig
from stages.lm.transformer import RMSNorm


class RecurrentState:
    """Hidden and cell state of every layer, [layer, B, C]; the length needs no reservation."""

    def __init__(self, config: ModelConfig, batch: int, device: torch.device) -> None:
        self.hidden = torch.zeros(config.n_layer, batch, config.d_model, device=device)
        self.cell = torch.zeros_like(self.hidden)
        self.filled = False

    def select(self, rows: Tensor) -> None:
        """Keep only these batch rows, in this order."""
        self.hidden, self.cell = self.hidden[:, rows], self.cell[:, rows]


class LSTMLanguageModel(nn.Module):
    """Token ids [B, T] → hidden states [B, T, C] → logits [B, T, V]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
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

    def new_cache(self, batch: int, length: int) -> RecurrentState:
        return RecurrentState(self.config, batch, self.embed_tokens.weight.device)

    def hidden(
        self,
        tokens: Tensor,
        cache: RecurrentState | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [B, T, C].

        With a cache, the state continues; in its first call `positions` [B, T] marks right padding by negative values,
        so that each row's state is that of its last real token. `documents` raises ParamError: torch.nn.LSTM can't
        reset a row's state on the way.
        """
        if documents is not None:
            raise ParamError("an LSTM carries its state from document to document: switch `document_mask` off for it")
        x = self.embed_tokens(tokens)
        if cache is None:
            return self.norm(self.lstm(x)[0])
        if not cache.filled and positions is not None and bool((positions < 0).any()):
            lengths = (positions >= 0).sum(dim=1).cpu()
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            packed_out, (cache.hidden, cache.cell) = self.lstm(packed)
            out, _ = pad_packed_sequence(packed_out, batch_first=True, total_length=tokens.shape[1])
        else:
            out, (cache.hidden, cache.cell) = self.lstm(x, (cache.hidden.contiguous(), cache.cell.contiguous()))
        cache.filled = True
        return self.norm(out)

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.head_weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits(self.hidden(tokens))
