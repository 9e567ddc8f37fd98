"""Loss after loss of TRL on one batch, for `test_trl.py`; runs in the peers' environment: `trl_peer.py JOB.json`."""

import json
import logging
import sys
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

logging.disable(logging.WARNING)
transformers.utils.logging.set_verbosity_error()


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    found = {}
    for name, options in job["runs"].items():
        kind = name.split("_")[0]
        rows = job["rows"].get(name, job["rows"][kind])
        tokenizer = AutoTokenizer.from_pretrained(job["model"])
        tokenizer.chat_template = job["templates"].get(name, tokenizer.chat_template)
        config, trainer = {
            "sft": (SFTConfig, SFTTrainer),
            "dpo": (DPOConfig, DPOTrainer),
            "reward": (RewardConfig, RewardTrainer),
        }[kind]
        loader = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
        labels = {"num_labels": 1} if kind == "reward" else {}
        model = loader.from_pretrained(job["model"], dtype=torch.float32, **labels)
        if kind == "reward":
            torch.nn.init.zeros_(model.score.weight)
            model.config.pad_token_id = tokenizer.pad_token_id
        arguments = config(
            output_dir=str(Path(sys.argv[1]).parent / name),
            per_device_train_batch_size=len(rows),
            max_steps=job["steps"],
            learning_rate=job["lr"],
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            **options,
        )
        run = trainer(model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        run.train()
        found[name] = [row["loss"] for row in run.state.log_history if "loss" in row]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
