"""Model folders, and checkpoints of unfinished training that are complete, locked and of the right run, or refused."""

import fcntl
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from stages.base.errors import InputError, ResourceError
from stages.base.files import atomic_path, sync, write_json
from stages.lm import distributed
from stages.lm.build import LanguageModel
from stages.lm.chat import ChatTokenizer
from stages.lm.device import device, environment
from stages.lm.hf import generation_config, hf_config, read_config
from stages.lm.hf_weights import from_hf_state_dict, read_weights, to_hf_state_dict, write_weights
from stages.lm.lstm import LSTMLanguageModel
from stages.lm.transformer import Decoder

CHECKPOINTS = Path(".trainyard/checkpoints")
_MAGIC = b"trainyard-state-2\n"


def save_model(folder: Path | str, model: LanguageModel, tokenizer: ChatTokenizer | None = None) -> None:
    """Write a folder that transformers loads (an LSTM's only we do): config, fp32 weights and, if one is given, the
    tokenizer with its chat template and the config of generation. Rank 0 writes, and all gather.
    """
    state = gathered(model.state_dict())
    if state is None:
        return
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    tensors = to_hf_state_dict(state, model.config)
    write_weights(target, {name: value.detach().float().cpu() for name, value in tensors.items()})
    write_json(target / "config.json", hf_config(model.config, tokenizer))
    if tokenizer is not None:
        tokenizer.save(target, model.config.max_seq_len)
        write_json(target / "generation_config.json", generation_config(model.config, tokenizer))


def load_model(folder: Path | str) -> LanguageModel:
    """The model of a model folder, ours or another's, in fp32 and eval mode, on the chosen device. `InputError` for
    what isn't one: `hf.read_config` and `hf_weights.read_weights` say when.
    """
    source = Path(folder)
    config = read_config(source)
    state = from_hf_state_dict(read_weights(source, config), config)
    model = Decoder(config) if config.arch == "transformer" else LSTMLanguageModel(config)
    model.load_state_dict(state)
    return model.to(device()).eval()


def save_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's tensors, by parameter number, so that another stage can go on from here."""
    state = gathered(optimizer.state_dict()["state"])
    if state is None:
        return
    tensors = {
        f"{index}.{key}": value.contiguous() for index in sorted(state) for key, value in sorted(state[index].items())
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def load_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> None:
    """Undo `save_optimizer`, for an optimizer built over the same model in the same way; `InputError` for another."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: unreadable or cut short ({error}); run pretraining.pretrain again") from error
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kinds = [group["kind"] for group in optimizer.param_groups for _ in group["params"]]
    for number, (parameter, kind) in enumerate(zip(parameters, kinds, strict=True)):
        held = state.get(number, {})
        shapes = {value.shape for key, value in held.items() if key != "step"}
        if ("momentum" in held) != (kind == "muon") or shapes != {parameter.shape}:
            raise InputError(
                f"{path}: made for another model or optimizer (parameter {number}, {kind}, {tuple(parameter.shape)}); "
                "run pretraining.pretrain again"
            )
    load_optimizer_state(optimizer, {"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load whole tensors; where the parameter is one of several processes', its part of them."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {
            key: _part(value, parameters[index]) if value.shape == parameters[index].shape else value
            for key, value in values.items()
        }
        for index, values in saved["state"].items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})


def _part(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    target = torch.empty_like(parameter, requires_grad=False)
    distributed.assign(target, value)
    return target


def gathered(state: dict[Any, Any]) -> Any:
    """A state dict with whole tensors at rank 0, None elsewhere; all processes must call it."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if not isinstance(value, torch.Tensor):
            return value
        full = distributed.whole(value)
        if full is value:
            return value
        return full.cpu() if distributed.rank() == 0 else None  # one gathered tensor at a time on the device

    walked = walk(state)
    return walked if distributed.rank() == 0 else None


def fingerprint(facts: dict[str, Any]) -> str:
    """16 hex digits over everything a training run is a function of.

    `facts` holds the stage's params, seed, input hashes and code digest, as JSON values; torch version, device class,
    and the number of processes that torchrun has started and what they share are added here.
    """
    here = environment() | distributed.environment()
    text = json.dumps({"facts": facts, "environment": here}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TrainingState:
    """The latest state of one training run, in `.trainyard/checkpoints/<name>/<fingerprint>/`, held by one process (of
    several that train together, rank 0; the others read).

    Another fingerprint is another folder: a run never resumes under changed params. `ResourceError` if another process
    holds it.
    """

    def __init__(self, name: str, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.folder = CHECKPOINTS / name / fingerprint
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "state.bin"
        self._lock = (self.folder / "lock").open("ab")
        if distributed.rank() > 0:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ResourceError(
                f"{self.folder}: another process is training this very run; wait for it, or end it and start again"
            ) from None
        for leftover in self.folder.glob(".state.bin.*.partial"):  # of a process killed while it saved
            leftover.unlink()
        others = [path.parent for path in self.folder.parent.glob("*/state.bin")]
        if not self.path.exists() and not all(map(_held, others)):
            print(
                f"{name}: starting afresh; the unfinished runs in {self.folder.parent} are of other params, inputs, "
                "code, machine or processes",
                file=sys.stderr,
            )

    def save(self, state: dict[str, Any]) -> None:
        """Replace the state atomically: magic, fingerprint, payload, sha256 of all before; fsynced before the rename,
        the folder after. The payload goes straight to the file: no second copy of the state in memory.
        """
        with atomic_path(self.path) as temporary, temporary.open("wb") as handle:
            digest = _Digesting(handle)
            digest.write(_MAGIC + self.fingerprint.encode())
            torch.save(state, digest)  # type: ignore[arg-type]  # of a file it needs write() only
            handle.write(digest.sha256.hexdigest().encode())
            handle.flush()
            os.fsync(handle.fileno())
        sync(self.folder)

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none; `InputError` for a damaged file or one of another run."""
        if not self.path.exists():
            return None
        data = memoryview(self.path.read_bytes())
        start, end = len(_MAGIC) + len(self.fingerprint), max(len(data) - 64, 0)
        if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(data[:end]).hexdigest().encode() != data[end:]:
            raise InputError(f"{self.path}: damaged (checksum mismatch); delete {self.folder} to start afresh")
        if data[len(_MAGIC) : start] != self.fingerprint.encode():
            raise InputError(
                f"{self.path}: the state of another run ({bytes(data[len(_MAGIC) : start]).decode(errors='replace')}); "
                f"delete {self.folder} to start afresh"
            )
        try:
            return torch.load(io.BytesIO(data[start:end]), map_location="cpu", weights_only=True)
        except MemoryError:
            raise
        except Exception as error:  # of many kinds; the checksum fits, so it was written so
            raise InputError(
                f"{self.path}: not a state that this version of torch reads ({type(error).__name__}); delete "
                f"{self.folder} to start afresh"
            ) from None

    def close(self) -> None:
        self._lock.close()

    def discard(self) -> None:
        """Remove the state: the run's results are safely elsewhere."""
        if distributed.rank() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


def _held(folder: Path) -> bool:
    """Whether a process, this one maybe, trains the run of this folder."""
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


class _Digesting:
    """A file that knows the sha256 of what was written to it."""

    def __init__(self, handle: BinaryIO) -> None:
        self.handle, self.sha256 = handle, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.handle.write(data)

    def flush(self) -> None:
        self.handle.flush()


class Stateful(Protocol):
    """What a run holds beside model and optimizer; its state: tensors, numbers, texts, None, lists and dicts."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def capture(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    step: int,
    rows: list[dict[str, float]],
    carried: Mapping[str, Stateful],
) -> dict[str, Any] | None:
    """Everything the next step depends on, at rank 0 (None elsewhere; all processes must call it)."""
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    generators_of_all = distributed.every(generators)
    whole_model, whole_optimizer = gathered(model.state_dict()), gathered(optimizer.state_dict())
    if whole_model is None:
        return None
    return {
        "model": whole_model,
        "optimizer": whole_optimizer,
        "step": step,
        "rows": rows,
        "rng": generators_of_all,
        "carried": {name: one.state_dict() for name, one in carried.items()},
    }


def restore(
    state: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, carried: Mapping[str, Stateful]
) -> tuple[int, list[dict[str, float]]]:
    """Undo `capture`; returns the step to do next and the rows of the steps done."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            distributed.assign(value, state["model"][name])
    load_optimizer_state(optimizer, state["optimizer"])
    generators = state["rng"][distributed.rank()]
    torch.set_rng_state(generators["cpu"])
    if "cuda" in generators and torch.cuda.is_available():
        torch.cuda.set_rng_state(generators["cuda"])
    for name, one in carried.items():
        one.load_state_dict(state["carried"][name])
    return state["step"], state["rows"]
