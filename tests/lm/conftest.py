import pytest
import torch

from stages.lm.config import ModelConfig


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tiny(arch: str = "transformer", **changes: object) -> ModelConfig:
    values = {
        "arch": arch, "vocab_size": 128, "n_layer": 2, "d_model": 32, "n_head": 4, "n_kv_head": 2, "d_ff": 64,
        "max_seq_len": 48, "rope_theta": 10000.0, "tie_embeddings": False, "qk_norm": True, "norm_eps": 1e-6,
    }  # fmt: skip
    return ModelConfig.from_dict(values | changes)


def shaken(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights everywhere: a fresh model's zero output projections would hide what the blocks do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model
