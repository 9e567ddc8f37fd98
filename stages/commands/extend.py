"""`trainyard extend`: a model with new tokens in its vocabulary, as a new model folder."""

import argparse
import shutil
from pathlib import Path

from stages.base.errors import InputError
from stages.base.terminal import shown_json
from stages.commands.chat import model_folder

EXAMPLE = """\
example:
  trainyard extend sft --tokens words.txt --out larger
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser("extend", help="add tokens to a model's vocabulary", epilog=EXAMPLE)
    add = command.add_argument
    add("model", help="a key of data/models, or a model folder")
    add("--tokens", type=Path, metavar="FILE", help="new ordinary tokens, one a line, blanks included")
    add("--special", type=Path, metavar="FILE", help="new special tokens, never found in a text, one a line")
    add("--out", type=Path, required=True, metavar="FOLDER", help="a new folder for the larger model")
    add("--seed", type=int, default=0, help="of the noise in rows that no text belongs to")
    add("--json", action="store_true", help="what was written, as JSON")
    command.set_defaults(run=run)


def read_tokens(path: Path | None) -> list[str]:
    """New tokens, one a line, as they stand: blanks at either end belong to a token. Blank lines are refused as empty
    tokens (by `extend_tokenizer`).
    """
    if path is None:
        return []
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def run(options: argparse.Namespace) -> int:
    """Write `--out`: the larger model with its tokenizer."""
    from stages.lm.chat import load_tokenizer
    from stages.lm.checkpoint import load_model, save_model
    from stages.lm.extension import extend_model, extend_tokenizer

    source, out = model_folder(options.model), options.out
    if out.exists():
        raise InputError(f"{out}: exists; name a new folder, or remove this one")
    before = load_tokenizer(source)
    after = extend_tokenizer(before, read_tokens(options.tokens), read_tokens(options.special))
    larger = extend_model(load_model(source), before, after, options.seed)
    made = out.with_name(f".{out.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    try:
        save_model(made, larger, after)
        made.replace(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    old, new = before.vocab_size, after.vocab_size
    if options.json:
        told = {"folder": str(out), "tokens": new - old, "first_id": old, "vocabulary": larger.config.vocab_size}
        print(shown_json(told))
        return 0
    print(
        f"{out}: {new - old} new tokens, ids {old} to {new - 1}; the model's vocabulary is {larger.config.vocab_size}"
    )
    return 0
