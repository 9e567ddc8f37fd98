"""The shape of a language model: one frozen, validated record that every checkpoint carries."""

from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from stages.base.errors import ParamError

if TYPE_CHECKING:
    from stages.base.recipe import Recipe, Shape

ARCHITECTURES = ("transformer", "lstm")
ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
LONGEST = 1 << 20  # positions: tables of angles are made for all of them


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
    head_dim: int = 0  # 0: d_model / n_head
    activation: str = "silu"  # of the gate
    # Of models of others; those that are trained here have none of it.
    family: str = ""  # the model_type of its folder; "": qwen3, and llama without norms of queries and keys
    qkv_bias: bool = False
    out_bias: bool = False  # of attention's output
    mlp_bias: bool = False
    rope_scaling: dict[str, Any] | None = None  # `rotary.scaling_of`
    unrotated: tuple[int, ...] = ()  # layers without positions (SmolLM3's NoPE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unrotated", tuple(self.unrotated))  # a list in JSON
        _require(self.arch in ARCHITECTURES, "arch", self.arch, f"one of {', '.join(ARCHITECTURES)}")
        for name in ("vocab_size", "n_layer", "d_model", "n_head", "n_kv_head", "d_ff", "max_seq_len"):
            value = getattr(self, name)
            _require(type(value) is int and 0 < value < 1 << 31, name, value, "a positive integer")
        if self.head_dim == 0:
            _require(self.d_model % self.n_head == 0, "n_head", self.n_head, f"a divisor of d_model {self.d_model}")
            object.__setattr__(self, "head_dim", self.d_model // self.n_head)
        _require(self.max_seq_len <= LONGEST, "max_seq_len", self.max_seq_len, f"at most {LONGEST}")
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "positive, e.g. 1e-6")
        if self.arch == "transformer":
            _require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {', '.join(ACTIVATIONS)}")
            even = type(self.head_dim) is int and 0 < self.head_dim <= 1 << 16 and self.head_dim % 2 == 0
            _require(even, "head_dim", self.head_dim, "a positive even integer (RoPE)")
            _require(
                self.n_head % self.n_kv_head == 0, "n_kv_head", self.n_kv_head, f"a divisor of n_head {self.n_head}"
            )
            _require(self.rope_theta > 0, "rope_theta", self.rope_theta, "positive, e.g. 10000.0")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Raises ParamError for a missing or an unknown key."""
        known = {field.name for field in fields(cls)}
        optional = {field.name for field in fields(cls) if field.default is not MISSING}
        missing, unknown = sorted(known - optional - set(values)), sorted(set(values) - known)
        if missing or unknown:
            raise ParamError(f"model config: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
        return cls(**values)

    @classmethod
    def of(cls, arch: str, shape: "Shape", recipe: "Recipe", vocab_size: int, seq_len: int) -> "ModelConfig":
        """A model to be trained by a recipe. Raises ParamError for a shape that can't be built."""
        return cls(
            arch=arch,
            vocab_size=vocab_size,
            n_layer=shape.n_layer,
            d_model=shape.d_model,
            n_head=shape.n_head,
            n_kv_head=shape.n_kv_head,
            d_ff=shape.d_ff,
            max_seq_len=seq_len,
            rope_theta=recipe.rope_theta,
            tie_embeddings=recipe.tie_embeddings,
            qk_norm=recipe.qk_norm,
            norm_eps=recipe.norm_eps,
        )

    def non_embedding_count(self) -> int:
        """Parameters apart from the input embedding and the output head (Kaplan et al. 2020's N)."""
        width = self.d_model
        if self.arch == "lstm":
            return self.n_layer * (8 * width * width + 8 * width) + width
        attention = width * self.head_dim * (2 * self.n_head + 2 * self.n_kv_head)
        norms = 2 * width + (2 * self.head_dim if self.qk_norm else 0)
        biases = self.qkv_bias * self.head_dim * (self.n_head + 2 * self.n_kv_head) + self.out_bias * width
        biases += self.mlp_bias * (2 * self.d_ff + width)
        return self.n_layer * (attention + 3 * width * self.d_ff + norms + biases) + width

    def param_count(self) -> int:
        """All parameters, embeddings included, a tied head counted once (Hoffmann et al. 2022's N)."""
        return self.non_embedding_count() + (1 if self.tie_embeddings else 2) * self.vocab_size * self.d_model

    def matmul_count(self) -> int:
        """Weights that take part in a matrix product for each token: all matrices and the output head, not the input
        lookup.
        """
        width = self.d_model
        if self.arch == "lstm":
            layer = 8 * width * width
        else:
            layer = width * self.head_dim * (2 * self.n_head + 2 * self.n_kv_head) + 3 * width * self.d_ff
        return self.n_layer * layer + self.vocab_size * width

    def flops_per_token(self, seq_len: int) -> float:
        """Training FLOPs a token in rows of `seq_len`. An LSTM has no attention term."""
        layers = self.n_layer if self.arch == "transformer" else 0
        return training_flops(self.matmul_count(), layers, self.n_head * self.head_dim, seq_len)


def training_flops(weights: float, layers: int = 0, width: int = 0, seq_len: int = 0) -> float:
    """FLOPs a token, forward and backward: 6·N + 12·L·H·Q·T (PaLM, Chowdhery et al. 2022, appendix B).

    weights: those in matrix products, with the output head and without the input embedding. width: query heads × head
    size. Attention is counted in full, not halved for causality; no recomputation.
    """
    return 6.0 * weights + 12.0 * layers * width * seq_len


def _require(holds: bool, name: str, value: object, remedy: str) -> None:
    if not holds:
        raise ParamError(f"model config: {name} is {value!r}; it must be {remedy}")
