"""Chat templates beside other threads: the same text, and bounds that hold for nobody else."""

import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stages.base.errors import InputError
from stages.lm import renderer
from stages.lm.template import ChatTemplate

SOURCE = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content | tojson }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
HOSTILE = {
    "{{ 'a' * 99999999999 }}": "MemoryError",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}": "ended|not done",
    "{% set n = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}": "MemoryError",
    "{{ raise_exception('no system role') }}": "no system role",
    "{{ '\\ud800' }}": "surrogate",
}


def beside_another_thread(work: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, {"bos_token": "<s>"}, Path("chat_template.jinja"))


def asked(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{number} Größe </s> \u2028 {'x' * number}"}]


def test_threads_get_the_text_that_a_process_alone_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # other tests may have left threads of libraries
        patch.setattr(threading, "active_count", lambda: 1)
        alone = [template(SOURCE).render(asked(number), True) for number in range(40)]

    def together() -> list[str]:
        one = template(SOURCE)
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(lambda number: one.render(asked(number), True), range(40)))

    before = resource.getrlimit(resource.RLIMIT_AS)
    assert beside_another_thread(together) == alone
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize("source", HOSTILE)
def test_a_hostile_template_fails_alone(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.lm.template.SECONDS", 0.5)
    monkeypatch.setattr(renderer, "GRACE", 1.5)
    limits: set[tuple[int, int]] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            limits.add(resource.getrlimit(resource.RLIMIT_AS))

    before = resource.getrlimit(resource.RLIMIT_AS)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises(InputError, match=HOSTILE[source]) as caught:
            beside_another_thread(lambda: template(source).render(asked(1), True))
    finally:
        done.set()
        watcher.join()
    assert limits <= {before}, "other threads have all the memory there is"
    assert "chat_template.jinja: the chat template fails" in str(caught.value) and "\n" not in str(caught.value)
    assert beside_another_thread(lambda: template(SOURCE).render(asked(1), False)).startswith("<s>user")


def test_a_child_that_was_killed_is_followed_by_another() -> None:
    beside_another_thread(lambda: template(SOURCE).render(asked(1), True))
    child = renderer._CHILDREN[os.getpid()]._process
    assert child is not None
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert beside_another_thread(lambda: template(SOURCE).render(asked(2), True)).endswith("assistant:")
