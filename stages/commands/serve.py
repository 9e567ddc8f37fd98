"""`trainyard serve`: talk to models in a browser or through OpenAI's protocol, vote in an arena, label pairs, compare
experiments."""

import argparse
import functools
import os
import re
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.base.errors import InputError, ParamError, ResourceError
from stages.commands.chat import MODELS, model_folder

if TYPE_CHECKING:
    from stages.publishing.serve.annotation import Annotation
    from stages.publishing.serve.arena import Rated

FOLDER, CLAIMS = Path(".trainyard/serve"), Path("reports/claims")
TOKEN = "TRAINYARD_SERVE_TOKEN"
EXAMPLE = """\
examples:
  trainyard serve  # all models of data/models, at http://127.0.0.1:8000
  trainyard serve dpo sft --port 8080  # these two: chat side by side, or vote between them blindly
  trainyard serve --pairs pairs.jsonl  # a page to label pairs: rows {id, prompt, output_a, output_b}
"""


def register(subparsers: argparse._SubParsersAction) -> None:
    command = subparsers.add_parser(
        "serve",
        help="chat, an OpenAI-compatible endpoint, a blind arena, annotation, experiments compared: one server",
        epilog=EXAMPLE,
    )
    add = command.add_argument
    add("models", nargs="*", metavar="MODEL", help="keys of data/models or model folders (default: all of data/models)")
    add("--host", default="127.0.0.1", help=f"another than loopback needs a token: ${TOKEN}, or one is made up")
    add("--port", type=int, default=8000, help="0 takes a free one")
    add("--rows", type=int, default=32, help="requests of one model answered at a time")
    add("--queue", type=int, default=256, help="requests that wait; more are told to come back")
    add("--max-tokens", type=int, default=2048, help="of one answer at most")
    add("--timeout", type=float, default=300.0, help="seconds until an answer is whole")
    add("--pairs", type=Path, metavar="FILE", help="pairs to label: JSONL or parquet, {id, prompt, output_a, output_b}")
    add("--answers", type=Path, metavar="FILE", help="answers to edit: JSONL or parquet, {id, instruction, response}")
    add("--each", type=int, help="people that label one item (default: everybody labels all)")
    add("--guideline", type=Path, metavar="FILE", help="a text that people see beside what they label")
    add("--folder", type=Path, default=FOLDER, help=f"where votes, labels and edits go (default: {FOLDER})")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    import asyncio

    import uvicorn

    from stages.publishing.serve.app import create_app
    from stages.publishing.serve.arena import Arena
    from stages.publishing.serve.experiments import Experiments
    from stages.publishing.serve.guard import is_loopback
    from stages.publishing.serve.journal import Journal, only_writer
    from stages.publishing.serve.models import Limits, Shelf

    if min(options.rows, options.queue, options.max_tokens) < 1 or not options.timeout > 0:
        raise ParamError("--rows, --queue and --max-tokens are 1 or more, --timeout more than 0")
    if not 0 <= options.port < 1 << 16:
        raise ParamError(f"--port {options.port}: a port is 0 to 65535")
    if options.each is not None and options.each < 1:
        raise ParamError("--each must be 1 or more")
    others = options.pairs or options.answers or any(CLAIMS.glob("*.json"))
    folders = model_folders(options.models, needed=not others)
    token = None if is_loopback(options.host) else _token()
    with only_writer(options.folder):
        annotation = _annotation(options)
        shelf = Shelf(folders, Limits(options.rows, options.queue, options.timeout, options.max_tokens))
        arena = Arena(shelf, Journal(options.folder / "arena.jsonl"), rate)
        with _listener(options.host, options.port) as listener:
            host, port = listener.getsockname()[:2]
            place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            print(f"models: {', '.join(folders) or 'none'}; the endpoint is {place}/v1")
            print(f"open {place}/{f'?token={token}' if token else ''} (ctrl-c ends)", flush=True)
            app = create_app(shelf, arena, annotation, Experiments(compare_arms), token)
            config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_graceful_shutdown=2)
            asyncio.run(uvicorn.Server(config).serve([listener]))
    return 0


def model_folders(names: list[str], needed: bool) -> dict[str, Path]:
    """Folders of models by the names they are served under. Raises InputError for none, where one is needed, and
    ParamError for two of one name.
    """
    if not names:
        names = sorted(path.parent.name for path in MODELS.glob("*/config.json"))
        if not names and needed:
            raise InputError(f"{MODELS} holds no models yet: run `dvc repro`, or name a model folder")
    folders: dict[str, Path] = {}
    for name in names:
        folder = model_folder(name)
        key = Path(os.path.abspath(folder)).name
        if key in folders:
            raise ParamError(
                f"two models are called {key!r}: {folders[key]} and {folder}; give each folder its own name"
            )
        folders[key] = folder
    return folders


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise ResourceError(
            f"--host {host} --port {port} can't be listened on ({error.strerror}); choose another, or 0"
        ) from None


def rate(battles: dict[str, list[str]]) -> "list[Rated]":
    """Bradley–Terry ratings of the arena's votes, with 95 % intervals."""
    from stages.judging.statistics.arena import fit_bradley_terry
    from stages.publishing.serve.arena import Rated

    fitted = fit_bradley_terry(battles, disconnected="separate")
    return [
        Rated(name, rating, *fitted.intervals[name], fitted.groups[name]) for name, rating in fitted.ratings.items()
    ]


def compare_arms(a: str, b: str) -> Mapping[str, Any]:
    """As `trainyard compare A B --json`. Raises TrainyardError where a side can't be read."""
    from stages.commands.compare import compare
    from stages.experiment.sides import read_side

    return compare(read_side(a, _schema), read_side(b, _schema))


@functools.cache
def _schema() -> dict[str, Any]:
    from stages.sections import Sections

    return Sections().schema


def _token() -> str:
    token = os.environ.get(TOKEN) or secrets.token_urlsafe(24)
    if not re.fullmatch(r"[A-Za-z0-9_-]{16,200}", token):
        raise ParamError(f"${TOKEN} must have 16 to 200 letters, digits, - or _")
    return token


def _annotation(options: argparse.Namespace) -> "Annotation":
    from stages.publishing.serve.annotation import ANSWER, PAIR, Annotation, Annotators, Labels, read_items
    from stages.publishing.serve.journal import Journal

    folder, guideline = options.folder, ""
    if options.guideline is not None:
        try:
            guideline = options.guideline.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{options.guideline}: not a readable text ({error})") from None

    def labels(path: Path | None, fields: tuple[str, ...], kind: str, who: str, said: str) -> Labels | None:
        if path is None:
            return None
        journal = Journal(folder / f"{path.stem}.{kind}.jsonl")
        return Labels(read_items(path, fields), journal, who, said, options.each)

    return Annotation(
        Annotators(Journal(folder / "annotators.jsonl")),
        labels(options.pairs, PAIR, "votes", "annotator", "vote"),
        labels(options.answers, ANSWER, "edits", "reviewer", "verdict"),
        guideline,
    )
