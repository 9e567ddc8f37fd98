"""The shape of a language model: one frozen, validated record that every checkpoint carries."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from stages.base.errors import ParamError

ARCHITECTURES = ("transformer", "lstm")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a decoder. An LSTM uses vocab_size, n_layer, d_model, max_seq_len, tie_embeddings and norm_eps only."""

    arch: str
    vocab_size: int
    n_layer: int
    d_model: int
    n_head: int
    n_kv_head: int
    d_ff: int
    max_seq_len: int
    rope_theta: float
    tie_embeddings: bool
    qk_norm: bool
    norm_eps: float

    def __post_init__(self) -> None:
        _require(self.arch in ARCHITECTURES, "arch", self.arch, f"one of {', '.join(ARCHITECTURES)}")
        for name in ("vocab_size", "n_layer", "d_model", "n_head", "n_kv_head", "d_ff", "max_seq_len"):
            value = getattr(self, name)
            _require(type(value) is int and value > 0, name, value, "a positive integer")
        _require(self.vocab_size % 64 == 0, "vocab_size", self.vocab_size, "a multiple of 64 (pad the vocabulary)")
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "positive, e.g. 1e-6")
        if self.arch == "transformer":
            _require(self.d_model % self.n_head == 0, "n_head", self.n_head, f"a divisor of d_model {self.d_model}")
            _require(self.head_dim % 2 == 0, "n_head", self.n_head, f"an even head size, not {self.head_dim} (RoPE)")
            _require(
                self.n_head % self.n_kv_head == 0, "n_kv_head", self.n_kv_head, f"a divisor of n_head {self.n_head}"
            )
            _require(self.rope_theta > 0, "rope_theta", self.rope_theta, "positive, e.g. 10000.0")

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_head

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Raises ParamError for a missing or an unknown key."""
        known = {field.name for field in fields(cls)}
        missing, unknown = sorted(known - set(values)), sorted(set(values) - known)
        if missing or unknown:
            raise ParamError(f"model config: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
        return cls(**values)

    def non_embedding_count(self) -> int:
        """Parameters apart from the input embedding and the output head (Kaplan et al. 2020's N)."""
        width = self.d_model
        if self.arch == "lstm":
            return self.n_layer * (8 * width * width + 8 * width) + width
        attention = width * self.head_dim * (2 * self.n_head + 2 * self.n_kv_head)
        norms = 2 * width + (2 * self.head_dim if self.qk_norm else 0)
        return self.n_layer * (attention + 3 * width * self.d_ff + norms) + width

    def param_count(self) -> int:
        """All parameters, embeddings included, a tied head counted once (Hoffmann et al. 2022's N)."""
        return self.non_embedding_count() + (1 if self.tie_embeddings else 2) * self.vocab_size * self.d_model


def _require(holds: bool, name: str, value: object, remedy: str) -> None:
    if not holds:
        raise ParamError(f"model config: {name} is {value!r}; it must be {remedy}")
