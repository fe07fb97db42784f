"""What emulated tiles compute is what a processor's compute, bit for bit; where a machine has them.

`make emulate` runs it: EMBEDRT_TEST_LIBRARY names a build with -DEMBEDRT_EMULATE_AMX=ON, and the package has the other.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedrt.executors import library

# Rows and depths that end within a tile, queries with a window, numbers too small to be normal, and large ones.
_COMPUTE = """
import sys
from pathlib import Path
import numpy as np
from embedrt.executors import library
library.LIBRARY = Path(sys.argv[1])
from tests.native import door
rng = np.random.default_rng(20)
def some(*shape):
    return rng.standard_normal(shape).astype(np.float32)
out = {}
for rows, k, n in ((1, 16, 16), (16, 96, 80), (21, 1504, 144), (47, 384, 208)):
    weight = rng.integers(-127, 128, (k, n)).astype(np.int8)
    out[f"int8 {rows}"] = door.product("amx", some(rows, k), weight, some(n), some(n))[0]
for n, size in ((5, 32), (70, 48), (131, 64)):
    q, k, v = some(n, size), some(n, size), some(n, size)
    tiny = some(n, size) * np.float32(1e-39)
    out[f"attention {n}"] = door.attention("amx", q, k, v, before=40)
    out[f"tiny {n}"] = door.attention("amx", q, k, tiny)
    out[f"huge {n}"] = door.attention("amx", q, k, v * np.float32(1e37))
np.savez(sys.argv[2], **out)
"""
_ASK = """
import sys
from pathlib import Path
from embedrt.executors import library
library.LIBRARY = Path(sys.argv[1])
print(library.available_isas(library.load_library()).get("amx", False))
"""


def test_emulated_tiles_give_a_processors_bits(tmp_path: Path) -> None:
    if "EMBEDRT_TEST_LIBRARY" not in os.environ:
        pytest.skip("another build of the module is compared with the package's: make emulate")
    builds = {
        "emulated": Path(os.environ["EMBEDRT_TEST_LIBRARY"]),
        "real": Path(library.__file__).with_name("_native.so"),
    }
    found = {}
    for name, build in builds.items():
        if not _has_amx(build):
            pytest.skip(f"{build} has no amx here")
        target = tmp_path / f"{name}.npz"
        subprocess.run([sys.executable, "-c", _COMPUTE, str(build), str(target)], check=True)
        found[name] = np.load(target)
    assert len(found["real"].files) == 13
    for name in found["real"].files:
        np.testing.assert_array_equal(found["emulated"][name], found["real"][name], err_msg=name)


def _has_amx(build: Path) -> bool:
    done = subprocess.run([sys.executable, "-c", _ASK, str(build)], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == "True"
