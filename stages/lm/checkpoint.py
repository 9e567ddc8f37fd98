"""Model folders, and checkpoints of unfinished training that are complete, locked and of the right run, or refused."""

import fcntl
import hashlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from stages.base.errors import InputError, ResourceError
from stages.base.files import atomic_path, read_json, write_json
from stages.lm.build import LanguageModel, build_model
from stages.lm.config import ModelConfig
from stages.lm.device import device, environment

CHECKPOINTS = Path(".trainyard/checkpoints")
_MAGIC = b"trainyard-state-1\n"


def save_model(folder: Path | str, model: LanguageModel) -> None:
    """Write `config.json` and `model.safetensors` (fp32, names of the module) into `folder`."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in sorted(model.state_dict().items())}
    with atomic_path(target / "model.safetensors") as temporary:
        save_file(tensors, temporary)
    write_json(target / "config.json", model.config.to_dict())


def load_model(folder: Path | str) -> LanguageModel:
    """The model of a model folder, in eval mode, on the chosen device. `InputError` if a file is missing, cut or of
    another shape.
    """
    source = Path(folder)
    config = ModelConfig.from_dict(read_json(source / "config.json"))
    weights = source / "model.safetensors"
    if not weights.is_file():
        raise InputError(f"{weights}: not found; run the stage that writes this model")
    try:
        tensors = load_file(weights)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{weights}: unreadable or cut short ({error}); run the stage that writes it again") from error
    model = build_model(config, seed=0)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{weights}: does not fit {source / 'config.json'}: {reason}") from error
    return model.to(device()).eval()


def save_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's tensors, by parameter number, so that another stage can go on from here."""
    state = optimizer.state_dict()["state"]
    tensors = {
        f"{index}.{key}": value.contiguous() for index in sorted(state) for key, value in sorted(state[index].items())
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Undo `save_optimizer`, for an optimizer built over the same model in the same way."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: unreadable or cut short ({error}); run pretraining.pretrain again") from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def fingerprint(facts: dict[str, Any]) -> str:
    """16 hex digits over everything a training run is a function of.

    `facts` holds the stage's params, seed, input hashes and code digest, as JSON values; torch version, device class
    and thread count are added here.
    """
    text = json.dumps({"facts": facts, "environment": environment()}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TrainingState:
    """The latest state of one training run, in `.trainyard/checkpoints/<name>/<fingerprint>/`, held by one process.

    Another fingerprint is another folder: a run never resumes under changed params. `ResourceError` if another process
    holds it.
    """

    def __init__(self, name: str, fingerprint: str) -> None:
        self.folder = CHECKPOINTS / name / fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "state.bin"
        self._lock = (self.folder / "lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ResourceError(
                f"{self.folder}: another process is training this very run; wait for it, or end it and start again"
            ) from None

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state atomically: magic, sha256 of the payload, payload; fsynced before the rename, the folder
        after.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        with atomic_path(self.path) as temporary, temporary.open("wb") as handle:
            handle.write(_MAGIC)
            handle.write(hashlib.sha256(payload).hexdigest().encode())
            handle.write(payload)
            handle.flush()
            os.fsync(handle.fileno())
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none; `InputError` for a damaged file."""
        if not self.path.exists():
            return None
        data = self.path.read_bytes()
        header, digest = len(_MAGIC), len(_MAGIC) + 64
        if data[:header] != _MAGIC or hashlib.sha256(data[digest:]).hexdigest().encode() != data[header:digest]:
            raise InputError(f"{self.path}: damaged (checksum mismatch); delete {self.folder} to start afresh")
        return torch.load(io.BytesIO(data[digest:]), map_location="cpu", weights_only=True)

    def close(self) -> None:
        self._lock.close()

    def discard(self) -> None:
        """Remove the state: the run's results are safely elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def capture(
    model: nn.Module, optimizer: torch.optim.Optimizer, step: int, rows: list[dict[str, float]]
) -> dict[str, Any]:
    """Everything the next step depends on."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "rows": rows,
        "rng": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state_all()
    return state


def restore(
    state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, float]]]:
    """Undo `capture`; returns the step to do next and the rows of the steps done."""
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if "cuda_rng" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return state["step"], state["rows"]
