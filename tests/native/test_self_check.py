"""An instruction set that computes something wrong is refused by name, and the next one is taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embedrt.executors import library, native
from tests.native import made

KERNELS = (
    "quantize", "remainder", "product_i8", "product_f32", "product_bf16", "layer_norm", "rms_norm", "rotate", "add",
    "embed", "attention",
)  # fmt: skip

# The check is made once in a process, so each broken kernel has one of its own; one after the other in forked children.
_EVERY = """
import ctypes, os, sys
from pathlib import Path
from embedrt.executors import library
library.LIBRARY = Path(sys.argv[1])
loaded = library.load_library()
for isa, has in library.available_isas(loaded).items():
    for kernel in sys.argv[2].split(",") if has and isa != "portable" else ():
        if kernel == "product_bf16" and isa not in ("amx", "avx512bf16"):
            continue
        if os.fork() == 0:
            loaded.embedrt_probe_break(isa.encode(), kernel.encode(), None, ctypes.c_size_t(0))
            print(isa, kernel, library.faulty_isas(loaded, every=True).get(isa), flush=True)
            os._exit(0)
        os.wait()
"""
_LOAD = """
import ctypes, logging, sys
from pathlib import Path
logging.basicConfig(format="%(message)s")
from embedrt.errors import UnsupportedByNativeError
from embedrt.executors import library
from embedrt.executors.native import NativeExecutor
from embedrt.opening import open_bundle
library.LIBRARY = Path(sys.argv[1])
isa = sys.argv[3]
library.load_library().embedrt_probe_break(isa.encode(), b"layer_norm", None, ctypes.c_size_t(0))
bundle = open_bundle(sys.argv[2])
print(NativeExecutor(bundle, "int8", num_threads=1).isa)
try:
    NativeExecutor(bundle, "int8", num_threads=1, isa=isa)
except UnsupportedByNativeError as exc:
    print(exc)
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, str(library._find_library()), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_what_is_right_passes(native_isas: dict[str, bool]) -> None:
    assert library.faulty_isas(native.load_library(), every=True) == {}


def test_every_kernel_is_checked(native_isas: dict[str, bool]) -> None:
    lines = run(_EVERY, ",".join(KERNELS)).stdout.split("\n")[:-1]
    assert len(lines) >= (len(KERNELS) - 1) * sum(has for isa, has in native_isas.items() if isa != "portable")
    for line in lines:
        isa, broken, found = line.split()
        assert found == broken, (isa, broken, found)


def test_the_next_set_is_taken_and_the_log_says_why(native_isas: dict[str, bool], tmp_path: Path) -> None:
    here = [isa for isa, has in native_isas.items() if has]
    if len(here) < 2:
        pytest.skip("this machine has the portable set alone")
    bundle = made.write_bundle(tmp_path / "bundle", made.Shape())
    done = run(_LOAD, str(bundle.root), here[0])
    taken, refusal = done.stdout.strip().split("\n")
    assert taken == here[1]
    assert refusal == f"{here[0]} computes layer_norm wrongly on this machine; take another instruction set, or auto"
    assert f"the instruction set {here[0]} is not used" in done.stderr
