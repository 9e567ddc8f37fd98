"""`trainyard chat`: talk to a model in the terminal, or pipe prompts in, one a line."""

import argparse
import difflib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.base.errors import InputError, ParamError

MODELS = Path("data/models")
EXAMPLE = """\
examples:
  trainyard chat dpo --temperature 0.7
  trainyard chat sft --max-new-tokens 64 < prompts.txt
"""
HELP = "/quit ends · /help shows this · anything else is a question; each one starts a new conversation"


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("chat", help="talk to a model, or pipe prompts in", epilog=EXAMPLE)
    add = command.add_argument
    add("model", nargs="?", default="dpo", help="a key of data/models, or any model folder (default: dpo)")
    add("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    add("--top-p", type=float, default=0.95)
    add("--max-new-tokens", type=int, default=128)
    add("--seed", type=int, default=0)
    command.set_defaults(run=run)


def model_folder(name: str) -> Path:
    """A key of data/models or a path, as a model folder: also a file of it, or the folder of the stage that made it.

    Raises InputError naming what is there.
    """
    path = Path(name)
    of_stage = [MODELS / path.name] if (path / "record.json").is_file() else []
    for folder in (MODELS / name, path, *of_stage, *([path.parent] if path.is_file() else [])):
        if (folder / "config.json").is_file():
            return folder
    there = sorted(path.parent.name for path in MODELS.glob("*/config.json"))
    known = f"in {MODELS}: {', '.join(there)}" if there else f"{MODELS} holds none yet: run `dvc repro`"
    raise InputError(f"no model `{name}`{_close(name, there)}; {known}")


def _close(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean `{close[0]}`?" if close else ""


def answerer(
    folder: Path, temperature: float, top_p: float, max_new_tokens: int, seed: int
) -> Callable[[str], Iterator[str]]:
    """A function from a prompt to the growing pieces of the answer."""
    from stages.lm.chat import load_tokenizer
    from stages.lm.checkpoint import load_model
    from stages.lm.device import set_threads
    from stages.lm.generate import generate

    set_threads()
    model, tokenizer = load_model(folder), load_tokenizer(folder)

    def answer(prompt: str) -> Iterator[str]:
        ids, told = tokenizer.encode_prompt(prompt), ""
        room = model.config.max_seq_len - len(ids)
        if room < 1:
            yield f"(the question has {len(ids)} tokens; this model reads at most {model.config.max_seq_len - 1})"
            return
        for length in _lengths(min(max_new_tokens, room)):
            # Prompt and seed fix the stream of draws, so a longer answer starts with the shorter one.
            (tokens,) = generate(
                model,
                [ids],
                max_new_tokens=length,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                stop_ids=tokenizer.stop_ids,
            )
            text = tokenizer.decode(tokens)
            shown = text if len(tokens) < length else text.rstrip("\ufffd")  # half a character may still be completed
            yield shown[len(told) :] if shown.startswith(told) else f"\n{shown}"
            told = shown
            if len(tokens) < length:
                return

    return answer


def _lengths(limit: int) -> Iterator[int]:
    """8, 16, 32, … limit: the answer appears in pieces at about twice the cost of printing it whole."""
    length = 8
    while length < limit:
        yield length
        length *= 2
    yield limit


def printable(text: str) -> str:
    """A model's words without control characters: a terminal obeys escape sequences."""
    return "".join(c for c in text if c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) < 160))


def run(options: argparse.Namespace) -> int:
    if not (options.temperature >= 0 and 0 < options.top_p <= 1 and options.max_new_tokens >= 1):
        raise ParamError("--temperature must be 0 or more, --top-p in (0, 1], --max-new-tokens at least 1")
    folder = model_folder(options.model)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # piped bytes that are no UTF-8 are a question like any other
    talk = answerer(folder, options.temperature, options.top_p, options.max_new_tokens, options.seed)
    terminal = sys.stdin.isatty()
    if terminal:
        print(f"{folder}. {HELP}")
    while True:
        if terminal:
            print("\n> ", end="", flush=True)
        line = sys.stdin.readline()
        prompt = line.strip()
        if not line or prompt in ("/quit", "/exit"):
            return 0
        if prompt == "/help":
            print(HELP)
        elif prompt:
            for piece in talk(prompt):
                print(printable(piece), end="", flush=True)
            print(flush=True)
