"""Executors that are closed, dropped, forked, interrupted or left behind while calls run: right bits or ExecutorError.

Each test is seeded and short; `EMBEDRT_STRESS_S` (seconds) lets each go on for so long, and the slow one lets all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedrt import Embedder
from embedrt.errors import ExecutorError
from embedrt.executors import Executor, TokenBatch, library
from embedrt.executors.native import NativeExecutor
from embedrt.executors.onnxruntime import OnnxRuntimeExecutor
from embedrt.opening import open_bundle
from tests.native import made
from tests.native.made import Shape

CALLERS = 3
STRESS_S = float(os.environ.get("EMBEDRT_STRESS_S", "0"))
BATCH = made.random_batch([60, 3, 40, 17], 80)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

Make = Callable[[int], Executor]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, native_isas: dict[str, bool]) -> Path:
    """Six layers: long enough that a call is under way when something happens to it."""
    shape = Shape(hidden=96, layers=6, heads=3, ffn=208, vocabulary=80)
    return made.write_bundle(tmp_path_factory.mktemp("lifetime") / "bundle", shape).root


@pytest.fixture(params=[1, 2])
def make(request: pytest.FixtureRequest, root: Path) -> Make:
    """A native executor with one thread a call, whose calls run side by side, or with two."""
    threads: int = request.param
    bundle = open_bundle(root)
    return lambda available: NativeExecutor(bundle, "int8", num_threads=threads, available=available)


class Callers:
    """Threads that call in a loop until the executor is closed, and compare what they get."""

    def __init__(self, executor: Executor, batch: TokenBatch, wanted: NDArray[np.float32]) -> None:
        self.faults: list[str] = []
        self.calls = 0
        self.threads = [threading.Thread(target=self._loop, args=(executor, batch, wanted)) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def _loop(self, executor: Executor, batch: TokenBatch, wanted: NDArray[np.float32]) -> None:
        try:
            while True:
                if not np.array_equal(executor.run(batch), wanted):
                    self.faults.append("other bits")
                self.calls += 1
        except ExecutorError as exc:
            if "closed" not in str(exc):
                self.faults.append(str(exc))
        except BaseException as exc:
            self.faults.append(repr(exc))

    def join(self) -> None:
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads)
        assert not self.faults


def rounds(count: int) -> Iterator[np.random.Generator]:
    """`count` rounds, or as many as there is time for."""
    end = time.monotonic() + STRESS_S
    number = 0
    while number < count or time.monotonic() < end:
        yield np.random.default_rng(number)
        number += 1


def test_close_while_calls_run(make: Make) -> None:
    for rng in rounds(25):
        executor = make(int(rng.integers(1, 5)))
        callers = Callers(executor, BATCH, executor.run(BATCH))
        time.sleep(rng.uniform(0, 0.01))
        executor.close()
        with pytest.raises(ExecutorError, match="closed"):
            executor.run(BATCH)
        callers.join()


def test_an_executor_that_nobody_names_finishes_its_calls(make: Make) -> None:
    got: list[NDArray[np.float32]] = []

    def call(run: Callable[[TokenBatch], NDArray[np.float32]]) -> None:
        got.append(run(BATCH))

    for rng in rounds(25):
        executor = make(4)
        wanted = executor.run(BATCH)
        threads = [threading.Thread(target=call, args=(executor.run,)) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        time.sleep(rng.uniform(0, 0.002))
        del executor
        for thread in threads:
            thread.join(60)
        assert len(got) == CALLERS
        assert all(np.array_equal(one, wanted) for one in got)
        got.clear()


def test_what_is_held_outlives_the_close(make: Make) -> None:
    executor = make(2)
    wanted = executor.run(BATCH)
    held = executor.held()
    executor.close()
    np.testing.assert_array_equal(held.run(BATCH), wanted)
    held.close()
    for closed in (executor, held):
        with pytest.raises(ExecutorError, match="closed"):
            closed.run(BATCH)
        with pytest.raises(ExecutorError, match="closed"):
            closed.held()


def wait_for(child: int) -> int:
    """Its exit code; it is killed where it hangs."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


@forks
@pytest.mark.parametrize("child", ["runs and closes", "runs", "closes"])
def test_fork_while_calls_run(make: Make, child: str) -> None:
    executor = make(4)
    wanted = executor.run(BATCH)
    callers = Callers(executor, BATCH, wanted)
    for rng in rounds(5):
        time.sleep(rng.uniform(0, 0.004))
        forked = os.fork()
        if forked == 0:
            code = 1
            try:
                right = "runs" not in child or np.array_equal(executor.run(BATCH), wanted)
                if "closes" in child:
                    executor.close()
                code = 0 if right else 2
            finally:
                os._exit(code)
        assert wait_for(forked) == 0
    executor.close()
    callers.join()


PROGRAM = """
import atexit, os, pathlib, signal, sys, threading, time
import numpy as np
from embedrt.opening import open_bundle
from embedrt.executors import TokenBatch, library, native
library.LIBRARY = pathlib.Path(sys.argv[1])
threads = int(sys.argv[3])
executor = native.NativeExecutor(open_bundle(sys.argv[2]), "int8", num_threads=threads, available=4)
batch = TokenBatch(np.arange(3, 73, dtype=np.int32), np.array([0, 50, 70], np.int32))
wanted = executor.run(batch)
def loop():
    while True:
        executor.run(batch)
for _ in range(3):
    threading.Thread(target=loop, daemon=True).start()
"""


def run_program(root: Path, rest: str, threads: int) -> None:
    arguments = [str(library._find_library()), str(root), str(threads)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + rest, *arguments], capture_output=True, text=True, timeout=60 + STRESS_S
    )
    assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "ending",
    ["", "executor.close()", "atexit.register(executor.close)", "del executor", "raise SystemExit(0)"],
    ids=["as it is", "closed", "closed at exit", "dropped", "SystemExit"],
)
def test_the_interpreter_ends_while_calls_run(root: Path, ending: str, threads: int) -> None:
    quiet = "threading.excepthook = lambda _: None\n"  # of the threads whose executor is gone
    for rng in rounds(1):
        run_program(root, f"{quiet}time.sleep({rng.uniform(0.005, 0.03)})\n{ending}\n", threads)


@pytest.mark.skipif(os.name != "posix", reason="no signals here")
@pytest.mark.parametrize("threads", [1, 2])
def test_interrupts_while_calls_run(root: Path, threads: int) -> None:
    program = """
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background does not have
def interrupt():
    for sent, pause in enumerate(np.random.default_rng(0).uniform(0.001, 0.01, 20), 1):
        time.sleep(pause)
        os.kill(os.getpid(), signal.SIGINT)
        while interrupts < sent:  # two that are pending would be one
            time.sleep(0.001)
    global done
    done = True
done, interrupts = False, 0
interrupter = threading.Thread(target=interrupt)
while True:
    try:
        if not interrupter.ident:
            interrupter.start()
        while not done:
            assert np.array_equal(executor.run(batch), wanted)
        break
    except KeyboardInterrupt:
        interrupts += 1
interrupter.join()
assert np.array_equal(executor.run(batch), wanted)
assert interrupts == 20, interrupts
"""
    for _ in rounds(1):
        run_program(root, program, threads)


def test_onnxruntime_is_closed_likewise(tiny_bundle: Path) -> None:
    for rng in rounds(5):
        executor = OnnxRuntimeExecutor(open_bundle(tiny_bundle), "int8", device="cpu", num_threads=1)
        batch = made.random_batch([20, 20, 20], 16)
        callers = Callers(executor, batch, executor.run(batch))
        time.sleep(rng.uniform(0, 0.01))
        held = executor.held()
        executor.close()
        for closed in (executor.run, lambda _, one=executor: one.held()):
            with pytest.raises(ExecutorError, match="closed"):
                closed(batch)
        callers.join()
        held.run(batch)


@pytest.mark.parametrize("executor", ["native", "onnxruntime"])
def test_an_embedders_call_of_many_runs_finishes(tiny_bundle: Path, executor: str) -> None:
    texts = [f"text number {i}" for i in range(40)]
    with Embedder(tiny_bundle, variant="int8", executor=executor, num_threads=1) as embedder:
        wanted = embedder.encode(texts)
        stream = embedder.encode_stream(texts, block_size=10)
        blocks = [next(stream)]
        embedder.close()
        blocks += stream
        np.testing.assert_array_equal(np.concatenate([block.embeddings for block in blocks]), wanted)
        with pytest.raises(ExecutorError, match="closed"):
            embedder.encode(texts)
        with pytest.raises(ExecutorError, match="closed"):
            next(embedder.encode_stream(texts))


@pytest.mark.slow
def test_all_of_it_for_half_a_minute(root: Path) -> None:
    names = ("close_while", "nobody_names", "fork_while", "interrupts_while", "interpreter_ends")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", __file__]
    done = subprocess.run(
        [*command, "-k", " or ".join(names)],
        env={**os.environ, "EMBEDRT_STRESS_S": "2"},  # of each of 18
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
