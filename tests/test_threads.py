from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedrt.threads import begin, one_ahead

AT_EXIT = """
import atexit, sys
bundle = sys.argv[1]
def late():
    from embedrt import Embedder, encoding
    encoding.WINDOW_TEXTS = 8
    with Embedder(bundle, variant="int8", executor=sys.argv[2], num_threads=1) as made:
        print(made.encode([f"text {i}" for i in range(30)]).shape)
atexit.register(late)
import concurrent.futures.thread
"""


@pytest.mark.parametrize("executor", ["auto", "onnxruntime"])
def test_embedders_load_and_encode_while_the_interpreter_ends(tiny_bundle: Path, executor: str) -> None:
    ran = subprocess.run([sys.executable, "-c", AT_EXIT, str(tiny_bundle), executor], capture_output=True, text=True)
    assert ran.stdout.strip() == "(30, 64)", ran.stderr
    assert not ran.stderr


def test_work_is_done_here_where_no_thread_can_be_had() -> None:
    pool = ThreadPoolExecutor(1)
    pool.shutdown()
    assert begin(pool, threading.get_ident).result() == threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        begin(pool, lambda: 1 // 0).result()


def test_work_is_done_on_a_thread_where_one_can_be_had() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert begin(pool, threading.get_ident).result() != threading.get_ident()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_next_item_is_worked_on_while_the_caller_has_one(count: int) -> None:
    begun = [threading.Event() for _ in range(count)]
    read: list[int] = []

    def items() -> Iterator[int]:
        for i in range(count):
            read.append(i)
            yield i

    def work(item: int) -> int:
        begun[item].set()
        return item * item

    for item, result in one_ahead(work, items(), "test"):
        assert result == item * item
        assert len(read) == min(item + 2, count)  # one ahead, and no further
        if item + 1 < count:
            assert begun[item + 1].wait(10)
    assert read == list(range(count))


def test_one_item_alone_is_worked_on_in_the_callers_thread() -> None:
    assert list(one_ahead(lambda _: threading.get_ident(), iter([0]), "test")) == [(0, threading.get_ident())]
