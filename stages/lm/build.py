"""From a config and a seed to a model with its initial weights."""

import math

import torch

from stages.lm.config import ModelConfig
from stages.lm.lstm import LSTMLanguageModel
from stages.lm.transformer import Decoder

LanguageModel = Decoder | LSTMLanguageModel
GATE = 0.4


def build_model(config: ModelConfig, seed: int) -> LanguageModel:
    """A fresh model in training mode, its weights a pure function of (config, seed).

    Matrices: uniform with variance 1 / fan_in; gate and up with .4 of that width, as their product, SwiGLU's output,
    should start small (.007 bits per byte after 300 steps). Projections that write to the residual stream, and an
    untied head: zero, so that every block starts as the identity and the first loss is exactly ln V (Zhang et al. 2019,
    "Fixup"; Yang et al. 2021 for the head). A tied head must not be zero: normal, standard deviation d_model ** -0.5.
    """
    model = Decoder(config) if config.arch == "transformer" else LSTMLanguageModel(config)
    generator = torch.Generator().manual_seed(seed % 2**63)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("embed_tokens.weight"):
                std = config.d_model**-0.5 if config.tie_embeddings else 1.0
                parameter.normal_(0.0, std, generator=generator)
            elif name.endswith(("o_proj.weight", "down_proj.weight", "lm_head.weight")):
                parameter.zero_()
            elif parameter.ndim == 2:
                bound = math.sqrt(3.0 / parameter.shape[1]) * (GATE if name.endswith("gate_up_proj.weight") else 1.0)
                parameter.uniform_(-bound, bound, generator=generator)
            elif name.endswith(".bias"):
                parameter.zero_()
            elif name.startswith("lstm.bias"):
                parameter.zero_()
                if "bias_ih" in name:  # the forget gate starts open (Jozefowicz et al. 2015)
                    parameter[config.d_model : 2 * config.d_model] = 1.0
    return model.train()
