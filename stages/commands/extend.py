"""`trainyard extend`: a trained model with new tokens, as a model folder and as a Hugging Face folder."""

import shutil
from pathlib import Path

from stages.base.errors import InputError
from stages.base.files import atomic_path
from stages.base.params import load
from stages.commands.chat import model_folder, tokenizer_folder
from stages.lm.chat import load_tokenizer
from stages.lm.checkpoint import load_model, save_model
from stages.lm.extension import extend_model, extend_tokenizer
from stages.lm.transformer import Decoder
from stages.publishing.export import ExportParams, write_folder

HUGGING_FACE = "huggingface"


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


def main(model: str, tokens: Path | None, special: Path | None, out: Path, seed: int) -> int:
    """Write `out`: the larger model with its tokenizer, and `out/huggingface` if it exports as Qwen3."""
    source = model_folder(model)
    if out.exists():
        raise InputError(f"{out}: exists; name a new folder, or remove this one")
    params = load("publishing.export", ExportParams)
    before = load_tokenizer(tokenizer_folder(source))
    after = extend_tokenizer(before, read_tokens(tokens), read_tokens(special))
    larger = extend_model(load_model(source), before, after, seed)
    exported = larger if isinstance(larger, Decoder) and larger.config.qk_norm else None
    made = out.with_name(f".{out.name}.partial")
    shutil.rmtree(made, ignore_errors=True)
    try:
        save_model(made, larger)
        with atomic_path(made / "tokenizer.json") as temporary:
            temporary.write_text(after.to_str() + "\n", encoding="utf-8")
        if exported:
            write_folder(made / HUGGING_FACE, exported, made, params)
        made.replace(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    old, new = before.get_vocab_size(), after.get_vocab_size()
    print(
        f"{out}: {new - old} new tokens, ids {old} to {new - 1}; the model's vocabulary is {larger.config.vocab_size}"
    )
    if exported:
        print(f"{out / HUGGING_FACE}: the same for transformers")
    return 0
