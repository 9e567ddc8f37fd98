"""What a sandbox runs in tests: real extraction, and inputs that do what hostile pages make parsers do."""

import os
import signal
import time

from stages.corpus.pages import page

kept: list[bytearray] = []


def answer(head: bytes, body: bytes) -> bytes:
    if b"<segfault>" in body:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"<abort>" in body:
        os.write(2, b"memory allocation of 99 bytes failed\n")
        os.abort()
    if b"<exhaust>" in body:
        kept.append(bytearray(2**40))
    if b"<leak>" in body:
        kept.append(bytearray(120 * 2**20))
    if b"<hang>" in body:
        time.sleep(1000)
    if b"<pid>" in body:
        return str(os.getpid()).encode()
    return page.answer(head, body) if head else body.upper()


def extract_batch(pages, params):
    """`extract.extract_batch` with the hostile module, on any engine."""
    from stages.corpus import extract

    extract.MODULE = "tests.corpus.hostile"
    return extract.extract_batch(pages, params)
