"""TRL's side of `training.py` and `losses.py`, in the peers' environment: `trl_side.py METHOD MODEL ROWS.jsonl STEPS`.

One line of JSON: CPU seconds of each step, CPU seconds up to the first, peak memory.
"""

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

logging.disable(logging.WARNING)
transformers.utils.logging.set_verbosity_error()
TRAINERS = {"sft": (SFTConfig, SFTTrainer), "dpo": (DPOConfig, DPOTrainer), "reward": (RewardConfig, RewardTrainer)}


class Clock(TrainerCallback):
    """CPU seconds of each step, data and optimizer included."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_begin(self, *_: object, **__: object) -> None:
        self.marks.append(time.process_time())

    def on_train_end(self, *_: object, **__: object) -> None:
        self.marks.append(time.process_time())


def main() -> None:
    method, folder, path, steps = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = Dataset.from_list([json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()])
    config, trainer = TRAINERS[method]
    options: dict[str, Any] = {"sft": {"completion_only_loss": True}, "dpo": {"precompute_ref_log_probs": True}}.get(
        method, {}
    )
    arguments = config(
        output_dir=f"{path}.trl",
        per_device_train_batch_size=4,
        max_steps=steps,
        max_length=512,
        learning_rate=1e-5,
        logging_steps=steps,  # metrics of each step would cost it more
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        **options,
    )
    loader = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32, **({"num_labels": 1} if method == "reward" else {}))
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    clock = Clock()
    run = trainer(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[clock])
    run.train()
    seconds = [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "start": clock.marks[0], "peak_mib": peak}))


if __name__ == "__main__":
    main()
