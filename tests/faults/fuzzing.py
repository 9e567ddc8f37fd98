"""Every reader of something from outside, with what it is made for; and how such things are bent.

A target reads bytes. It may return, or raise one of its own errors in one line that says what is wrong; everything else
is a fault. Inputs are a function of the target's name and a number, so that each can be made again.
"""

import atexit
import gzip
import hashlib
import io
import json
import random
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from stages.base.errors import InputError, TrainyardError

ROOT = Path(__file__).resolve().parents[2]
LONGEST_LINE = 100_000  # characters of an error; what prints it cuts it
Read = Callable[[bytes], object]

STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 1e-320, 0.0, -0.0, "", " ", "0", "null",
    "nan", "inf", "\x00", "\x1b[2J", "\u202e", "\u2028", "\u0085", "\ufeff", "é", "a" * 5000, "=1+1", "<b>", "${x}",
    "{{ x }}", "../../etc/passwd", "/", ".", "//", "http://", "file:///etc/passwd", [], [[]], {}, {"": {}},
    [None] * 300, {"a": {"a": {"a": {"a": 1}}}}, ["a", 1, None],
]  # fmt: skip
TOKENS = [
    b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n\n", b"\t", b'"', b"'", b"[" * 200,
    b"{" * 200, b"(" * 200, b"<" * 200, b"nan", b"-inf", b"1e999", b"1e308", b"9" * 500, b"-0", b"0x", b"010",
    b"\\ud800", b"\\u0000", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\x1b[31m", b"%s%n", b"{{", b"{%", b"}}", b"&a", b"*a",
    b"!!int x", b"<<: *a", b"---\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"\x1f\x8b\x08\x00",
    b"<!--", b"<![CDATA[", b"<script>", b"&#x110000;", b"</", b",,,,", b":", b"null", b"true", b"\x80" * 8,
]  # fmt: skip


@dataclass(frozen=True)
class Target:
    read: Read
    seeds: tuple[bytes, ...]
    own: tuple[type[Exception], ...] = (TrainyardError,)
    form: str = "bytes"  # json, jsonl, yaml: values are bent, too

    def expected(self, error: BaseException) -> bool:
        """Whether an error is one of the target's, in one line."""
        told = str(error)
        return isinstance(error, self.own) and 0 < len(told) < LONGEST_LINE and "\n" not in told


def inputs(name: str, target: Target, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """(Number, input) from `start` on, without end."""
    number = start
    while True:
        yield number, input_of(name, target, number)
        number += 1


def input_of(name: str, target: Target, number: int) -> bytes:
    draw = random.Random(f"{name}:{number}")
    data = draw.choice(target.seeds)
    if target.form != "bytes" and draw.random() < 0.6:
        data = _bent(data, target.form, draw)
        if draw.random() < 0.7:
            return data
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        data = _mutated(data, target.seeds, draw)
    return data[: 1 << 20]


def _mutated(data: bytes, seeds: Sequence[bytes], draw: random.Random) -> bytes:
    place = draw.randrange(len(data) + 1)
    end = min(len(data), place + draw.choice((1, 2, 4, 16, 200)))
    match draw.randrange(8):
        case 0 if data:
            place = min(place, len(data) - 1)
            return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]
        case 1:
            return data[:place] + data[end:]
        case 2:
            return data[:place] + draw.choice(TOKENS) + data[place:]
        case 3:
            return data[:place] + draw.choice(TOKENS) + data[end:]
        case 4:
            return data[:end] + data[place:end] * draw.choice((1, 2, 50)) + data[end:]
        case 5:
            return data[:place]
        case 6:
            other = draw.choice(seeds)
            return data[:place] + other[draw.randrange(len(other) + 1) :]
        case _:
            return data[:place] + draw.randbytes(draw.choice((1, 2, 4, 8))) + data[end:]


def _bent(data: bytes, form: str, draw: random.Random) -> bytes:
    """With one to three of its values replaced, doubled or taken away."""
    if form == "jsonl":
        lines = data.split(b"\n")
        place = draw.randrange(len(lines))
        lines[place] = _bent(lines[place], "json", draw)
        return b"\n".join(lines)
    if form == "yaml":
        import yaml

        return json.dumps(_changed(yaml.load(data, yaml.CSafeLoader), draw)).encode()
    try:
        return json.dumps(_changed(json.loads(data), draw), ensure_ascii=draw.random() < 0.5).encode()
    except ValueError:
        return data


def _changed(value: Any, draw: random.Random) -> Any:
    for _ in range(draw.choice((1, 1, 2, 3))):
        value = _one_changed(value, draw)
    return value


def _one_changed(value: Any, draw: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or draw.random() < 0.1:
        return draw.choice(STRANGE)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = draw.choice(keys)
    changed = value.copy()
    match draw.randrange(10):
        case 0:
            del changed[key]
        case 1 if isinstance(changed, dict):
            changed[str(draw.choice(STRANGE))[:100]] = value[key]
        case 1:
            changed.insert(key, draw.choice(STRANGE))
        case _:
            changed[key] = _one_changed(value[key], draw)
    return changed


# ------------------------------------------------------------------------------------------ targets


@contextmanager
def _file(data: bytes, name: str) -> Iterator[Path]:
    path = _scratch() / name
    path.write_bytes(data)
    yield path


@cache
def _scratch() -> Path:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk would wait for each file
    folder = tempfile.mkdtemp(prefix="trainyard-fuzz-", dir=memory)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _by_file(name: str, read: Callable[[Path], object]) -> Read:
    def reads(data: bytes) -> object:
        with _file(data, name) as path:
            return read(path)

    return reads


def warc() -> Target:
    from stages.corpus.sources.warc import read_warc

    html = b"<html><body><p>" + b"A page of words. " * 20 + b"</p></body></html>"
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (html[:50], html[50:])) + b"0\r\n\r\n"
    heads = {
        b"": html,
        b"Content-Encoding: gzip\r\n": gzip.compress(html, mtime=0),
        b"Content-Encoding: deflate\r\n": zlib.compress(html),
        b"Transfer-Encoding: chunked\r\n": chunked,
        b"Content-Length: %d\r\n" % len(html): html,
    }

    def record(kind: bytes, content: bytes, more: bytes = b"") -> bytes:
        head = b"WARC/1.1\r\nWARC-Type: " + kind + b"\r\nWARC-Target-URI: http://a.example/x\r\n" + more
        head += b"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:1>\r\n"
        return head + b"Content-Length: %d\r\n\r\n" % len(content) + content + b"\r\n\r\n"

    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
    records = [record(b"response", http + head + b"\r\n" + body) for head, body in heads.items()]
    records.append(record(b"conversion", b"plain text", b"Content-Type: text/plain\r\n"))
    records.append(record(b"resource", html, b"Content-Type: text/html\r\n"))
    plain = b"".join(records)
    seeds = (plain, records[1], records[3], b"".join(gzip.compress(one, mtime=0) for one in records))
    return Target(_by_file("a.warc.gz", lambda path: list(read_warc(path, "a.warc.gz", 1 << 20))), seeds)


PAGES = (
    b"<!doctype html><html lang=en><head><meta charset=utf-8><title>T</title><link rel=license href=http://c/by/4.0>"
    b"<meta name=robots content=noai></head><body><nav><a href=/x>x</a></nav><main><h1>H</h1><p>First words of the"
    b" page, enough of them.</p><ul><li>a<li>b</ul><table><tr><td>1<td>2</table><pre>code\n  more</pre><math><mi>x</mi>"
    b"<msup><mn>2</mn><mn>3</mn></msup></math></main><script>var a='<p>';</script><!-- c --></body></html>",
    "<html><body><p>Größe 東京 \u202e &amp; &#65; &nbsp;</p><svg><text>t</text></svg>".encode("utf-16"),
    b"<p>" + b"<div>" * 40 + b"deep words here" + b"</div>" * 40 + b"<img alt='x' src=\"y\"><br/><hr>",
)


def html() -> Target:
    from stages.corpus.pages.page import Bounds, extract_page

    bounds = Bounds("blocks", 1 << 20, 50_000, 200)
    return Target(lambda data: extract_page(data, "http://a.example/", bounds), PAGES)


@cache
def _schema() -> Any:
    from stages.base.reference import params_schema
    from stages.check import declared_sections

    return params_schema(declared_sections())


def params() -> Target:
    from stages.base.params import read_params
    from stages.check import check_values

    return Target(
        _by_file("params.yaml", lambda path: check_values(read_params(path))),
        ((ROOT / "params.yaml").read_bytes(),),
        form="yaml",
    )


def overlays() -> Target:
    from stages.base.scales import COMPLETE, changes, lay, read_scale

    complete = read_scale(ROOT / COMPLETE)

    def read(path: Path) -> object:
        return changes(complete, lay(complete, read_scale(path), _schema(), str(path)))

    seeds = tuple(path.read_bytes() for path in sorted((ROOT / "scales").glob("*.yaml")) if path.stem != "laptop")
    return Target(_by_file("own.yaml", read), seeds, form="yaml")


def tasks() -> Target:
    from stages.evaluation.tasks.yaml_file import read_task_file

    library = ROOT / "stages/evaluation/tasks/library"
    seeds = tuple(path.read_bytes() for path in sorted(library.glob("*.yaml")))
    return Target(_by_file("own.yaml", read_task_file), seeds, form="yaml")


def claims() -> Target:
    from stages.experiment.declaration import read_declaration

    seeds = tuple(path.read_bytes() for path in sorted((ROOT / "experiments").glob("*.yaml")))
    return Target(_by_file("faster.yaml", read_declaration), seeds, form="yaml")


def jsonl_pages() -> Target:
    from stages.corpus.sources.files import read_file

    rows = [
        {"text": "A page.\nTwo lines.", "url": "http://a.example/1", "licence": "CC0-1.0"},
        {"id": 3, "content": "Größe 東京", "meta": {"lang": "de"}},
        {"html": "<p>x</p>", "url": "http://b.example/"},
    ]
    seed = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    return Target(_by_file("a.jsonl", lambda path: list(read_file(path, "a.jsonl", 1 << 16))), (seed,), form="jsonl")


def jsonl_instructions() -> Target:
    from stages.alignment.data.formats import INSTRUCTIONS, PREFERENCES, format_of, read_as, read_rows

    rows = [
        {"instruction": "Say a.", "input": "now", "output": "a", "split": "sft", "id": 1},
        {"prompt": "Say b.", "completion": "b"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"prompt": "Which?", "chosen": "a", "rejected": "b"},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Ho", "rejected": "\n\nHuman: Hi\n\nAssistant: Hu"},
        {"question": "1+1?", "answer": "2 #### 2"},
    ]

    def read(path: Path) -> object:
        found: list[object] = list(read_rows(path))
        for known in (INSTRUCTIONS, PREFERENCES):
            with suppress(InputError):
                found += [read_as(format_of(read_rows(path), known), row) for row in read_rows(path)]
        return found

    seeds = tuple(f"{json.dumps(row)}\n{json.dumps(row)}".encode() for row in rows)
    return Target(_by_file("a.jsonl", read), seeds, form="jsonl")


def judge_replies() -> Target:
    from stages.annotators.bill import billed_tokens, price
    from stages.annotators.refusal import Refused, TryAgain, error_within, meaning
    from stages.annotators.reply import UnparsableReply, read_choice, version
    from tests.annotators.judges import settings

    server = settings(provider="openai")
    sent = {"model": "m", "messages": [{"role": "user", "content": "Which?"}], "top_logprobs": 5}
    top = [{"token": "1", "logprob": -0.1}, {"token": " 2", "logprob": -2.5}]
    logprobs = {"content": [{"token": "1", "logprob": -0.1, "top_logprobs": top}]}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 3}}
    whole = {
        "id": "r", "model": "m", "system_fingerprint": "fp", "usage": usage,
        "choices": [{"message": {"role": "assistant", "content": "1"}, "logprobs": logprobs, "finish_reason": "stop"}],
    }  # fmt: skip
    thought = {"choices": [{"message": {"content": "<think>2?</think> Model 1 is better", "refusal": None}}]}
    parts = {"choices": [{"message": {"content": [{"type": "text", "text": "2"}]}, "finish_reason": "length"}]}
    error = {"error": {"message": "unsupported top_logprobs", "code": "x", "param": "top_logprobs"}}
    detail = {"detail": [{"loc": ["body", "logprobs"], "msg": "extra fields", "type": "extra_forbidden"}]}

    def read(data: bytes) -> object:
        try:
            reply = json.loads(data)
        except (ValueError, RecursionError):
            reply = data.decode("utf-8", "replace")
        for status in (400, 429, 500):
            problem = meaning(status, reply, {"retry-after": str(reply)[:20]}, sent, server, "Error")
            assert isinstance(problem, Refused | TryAgain | TrainyardError)
            assert len(str(problem).splitlines()) == 1, problem
        if isinstance(reply, dict):
            assert price(reply, server) >= 0 and billed_tokens(reply.get("usage"))[0] >= 0
            error_within(reply)
            version(reply)
            assert 0 <= read_choice(reply).second <= 1
        return reply

    seeds = tuple(json.dumps(one).encode() for one in (whole, thought, parts, error, detail))
    return Target(read, seeds, (UnparsableReply,), form="json")


def run_tables() -> Target:
    from stages.scaling.tables.table import read_table

    rows = ["N,D,C,loss,recipe,run,lr,batch", "1e6,2e7,1.2e14,4.1,a,r1,1e-3,32", "2e6,4e7,4.8e14,3.7,a,r2,1e-3,32"]
    rows += ["4e6,8e7,1.92e15,3.4,b,r3,3e-4,64", '8e6,1.6e8,7.68e15,3.2,"b, c",r4,3e-4,64']
    seeds = ("\n".join(rows).encode(), b"params,tokens,loss\n100,2000,5\n200,4000,4.5\n400,8000,4.2\n")
    return Target(_by_file("runs.csv", read_table), seeds)


def alpaca_files() -> Target:
    from stages.judging.alpaca_eval.files import read_annotations, read_outputs

    rows = [
        {"instruction": f"q{i}", "output_1": "a", "generator_1": "base", "output_2": "b", "generator_2": "mine",
         "preference": 1.7, "annotator": "w", "price_per_example": 0.01, "time_per_example": 1.5}
        for i in range(3)
    ]  # fmt: skip
    outputs = [{"instruction": "q", "output": "a", "generator": "g", "dataset": "d"}]

    def read(path: Path) -> object:
        return read_outputs(path) if b"generator_1" not in path.read_bytes() else read_annotations(path, "base")

    return Target(_by_file("a.json", read), (json.dumps(rows).encode(), json.dumps(outputs).encode()), form="json")


def alpaca_tables() -> Target:
    from stages.judging.alpaca_eval.tables import read_csv

    seed = b'instruction,difficulty\nq1,0.5\n"q, 2",-1.5\nq3,2e-3\n'
    return Target(_by_file("a.csv", lambda path: read_csv(path, ["instruction", "difficulty"])), (seed,))


def json_files() -> Target:
    from stages.base.files import read_json, read_jsonl

    def read(path: Path) -> object:
        try:
            read_jsonl(path)
        except TrainyardError as error:
            assert len(str(error).splitlines()) == 1
        return read_json(path)

    seed = json.dumps({"stage": "a", "params": {"b": [1, 2.5, None, "é"]}, "outputs": {"c": "d" * 64}}).encode()
    return Target(_by_file("a.json", read), (seed,), form="json")


def safetensors() -> Target:
    import torch

    from stages.lm.build import build_model
    from stages.lm.checkpoint import save_model
    from stages.lm.config import ModelConfig
    from stages.lm.hf import read_config
    from stages.lm.hf_weights import check_weights, read_weights

    config = ModelConfig(
        arch="transformer", vocab_size=64, n_layer=1, d_model=8, n_head=2, n_kv_head=1, d_ff=8, max_seq_len=16,
        rope_theta=10000.0, tie_embeddings=True, qk_norm=True, norm_eps=1e-6,
    )  # fmt: skip
    folder = _scratch() / "model"
    with torch.no_grad():
        save_model(folder, build_model(config, 0))
    weights = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(weights[:8], "little")

    def read(data: bytes) -> object:
        # The header is what is bent most; its length is mended, so that more than the first check is met.
        head, mark, body = data.partition(b"\n\0\n")
        whole = len(head).to_bytes(8, "little") + head + body if mark else data
        (folder / "model.safetensors").write_bytes(whole)
        found = read_config(folder)
        check_weights(folder, found)
        return read_weights(folder, found)

    return Target(read, (weights[8 : 8 + length] + b"\n\0\n" + weights[8 + length :], weights))


def model_configs() -> Target:
    from stages.lm.hf import read_config, sampling_of

    qwen = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 64, "num_hidden_layers": 1,
        "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "intermediate_size": 8,
        "max_position_embeddings": 16, "rope_theta": 10000.0, "tie_word_embeddings": True, "rms_norm_eps": 1e-6,
        "hidden_act": "silu", "rope_scaling": None, "attention_bias": False, "sliding_window": None,
    }  # fmt: skip
    scaled = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8}  # fmt: skip
    llama = qwen | {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_scaling": scaled}
    generation = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": [1, 2], "do_sample": True}
    folder = _scratch() / "configured"

    def read(data: bytes) -> object:
        folder.mkdir(exist_ok=True)
        for name in ("config.json", "generation_config.json"):
            (folder / name).write_bytes(data)
        sampling_of(folder)
        return read_config(folder)

    return Target(read, tuple(json.dumps(one).encode() for one in (qwen, llama, generation)), form="json")


def checkpoints() -> Target:
    import torch

    from stages.lm.checkpoint import TrainingState

    @cache
    def state() -> TrainingState:
        one = TrainingState.__new__(TrainingState)
        one.fingerprint, one.folder = "0123456789abcdef", _scratch()
        one.path = one.folder / "state.bin"
        return one

    state().save({"step": 3, "model": {"a": torch.ones(4)}, "rng": [1, 2]})
    seed = state().path.read_bytes()

    def read(data: bytes) -> object:
        # What is bent behind the mark gets a checksum that fits, so that the reader behind the first check meets it.
        signed = data.removesuffix(b"signed")
        state().path.write_bytes(data if signed == data else signed + hashlib.sha256(signed).hexdigest().encode())
        return state().load()

    return Target(read, (seed, seed[:-64] + b"signed"))


def chat_templates() -> Target:
    from stages.lm.template import ChatTemplate

    seeds = (
        b"{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m['content'] | trim }}<|im_end|>\n{% endfor %}"
        b"{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        b"{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set loop_messages = "
        b"messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}{% if "
        b"(m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns') }}{% endif %}{{ m | tojson }}"
        b"{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        b"{% macro a(x) %}{{ x | upper }}{% endmacro %}{% set n = namespace(i=0) %}{% for m in messages | "
        b"selectattr('role', 'equalto', 'user') %}{% set n.i = n.i + 1 %}{{ a(m.content) }}{{ n.i }}{% endfor %}",
    )
    messages = [{"role": "user", "content": "Hi é"}, {"role": "assistant", "content": "Ho"}]

    def read(data: bytes) -> object:
        source = data.decode("utf-8", "surrogateescape")
        return ChatTemplate(source, {"bos_token": "<s>"}, Path("chat_template.jinja")).render(messages, True)

    return Target(read, seeds)


def endpoint_requests() -> Target:
    from stages.publishing.serve.protocol import ApiError, ChatRequest, CompletionRequest, read_body

    chat = {
        "model": "m", "messages": [{"role": "user", "content": "Hi"}, {"role": "user", "content": [{"type": "text",
        "text": "x"}]}], "temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "stop": ["a"], "seed": 3, "stream": True,
        "stream_options": {"include_usage": True}, "logprobs": True, "top_logprobs": 3, "n": 1,
    }  # fmt: skip
    complete = {"model": "m", "prompt": ["a", "b"], "max_tokens": 5, "echo": True, "logprobs": 2, "stop": None}

    def read(data: bytes) -> object:
        found = []
        for kind in (ChatRequest, CompletionRequest):
            try:
                body: Any = read_body(data, kind)
            except ApiError as error:
                assert 0 < len(str(error)) < LONGEST_LINE, error
                continue
            found.append(body.stops)
            if isinstance(body, CompletionRequest):
                found.append(body.prompts)
        return found

    return Target(read, (json.dumps(chat).encode(), json.dumps(complete).encode()), (ApiError,), form="json")


def bundles() -> Target:
    from stages.publishing.lineage.bundle.archive import (
        STATEMENT,
        extract,
        member_digest,
        read_members,
        write_archive,
    )

    path = _scratch() / "seed.tar"
    parts: dict[str, bytes | Path] = {"project/data/a.json": b"{}", "project/params.yaml": b"a: 1\n", STATEMENT: b"{}"}
    write_archive(path, "row", parts)

    def read(found: Path) -> object:
        members = read_members(found)
        with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
            extract(found, members, Path(folder))
        return [member_digest(found, member) for member in members.values()]

    return Target(_by_file("a.bundle", read), (path.read_bytes(),))


def locks() -> Target:
    from stages.publishing.lineage.project import Project

    seed = {
        "schema": "2.0",
        "stages": {
            "a@b": {"cmd": "python -m stages.a", "deps": [{"path": "x", "hash": "md5", "md5": "0", "size": 1}],
                    "params": {"params.yaml": {"a.b": 1}}, "outs": [{"path": "y", "md5": "1.dir", "nfiles": 2}]},
        },
    }  # fmt: skip

    def read(path: Path) -> object:
        return Project(path.parent).lock

    return Target(_by_file("dvc.lock", read), (json.dumps(seed, indent=1).encode(),), form="yaml")


def terminals() -> Target:
    from stages.base.redaction import for_the_eye
    from stages.base.terminal import one_line, shown_json

    unsafe = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

    def read(data: bytes) -> object:
        text = data.decode("utf-8", "surrogateescape")
        assert not unsafe.search(one_line(for_the_eye(text)) + shown_json({text: [text]}))
        return text

    return Target(read, ("a \x1b[31m \u202e b http://u:p@h/ Größe".encode(), b"\x9b2J\x00\xff\r\n" * 5))


def compressed() -> Target:
    from stages.base.compressed import read_whole

    def read(data: bytes) -> object:
        kind = {b"\x1f\x8b": ".gz", b"BZ": ".bz2", b"\xfd7": ".xz", b"\x28\xb5": ".zst"}.get(data[:2], ".gz")
        with _file(data, f"a{kind}") as path:
            return read_whole(path)

    import bz2
    import lzma

    import zstandard

    text = b"some text that is packed " * 40
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as handle:
        handle.write(text)
    packed = (buffer.getvalue(), bz2.compress(text), lzma.compress(text), zstandard.ZstdCompressor().compress(text))
    return Target(read, packed)


TARGETS: dict[str, Callable[[], Target]] = {
    "WARC": warc,
    "HTML": html,
    "compressed files": compressed,
    "params.yaml": params,
    "overlays": overlays,
    "task YAML": tasks,
    "experiment YAML": claims,
    "dvc.lock": locks,
    "pages as JSON Lines": jsonl_pages,
    "instructions and preferences": jsonl_instructions,
    "records and other JSON": json_files,
    "judge replies": judge_replies,
    "AlpacaEval's files": alpaca_files,
    "AlpacaEval's tables": alpaca_tables,
    "run tables": run_tables,
    "checkpoints": checkpoints,
    "safetensors": safetensors,
    "config.json": model_configs,
    "chat templates": chat_templates,
    "endpoint requests": endpoint_requests,
    "bundles": bundles,
    "terminal": terminals,
}
