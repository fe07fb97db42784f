"""Try an installed embedrt, alone in its environment: the command runs, and the native module where there is one.

python .ci/try_wheel.py
"""

from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np

from embedrt.errors import DependencyError
from embedrt.executors.library import available_isas, load_library


def try_native() -> str:
    """Quantize one row with every instruction set that this machine has; their names."""
    library = load_library()
    names = [name for name, is_here in available_isas(library).items() if is_here]
    x = np.linspace(-2, 2, 64, dtype=np.float32)  # (64,)
    for name in names:
        rows, scale, error = np.zeros(64, np.int16), np.zeros(1, np.float32), ctypes.create_string_buffer(512)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, rows, scale)]
        code = library.embedrt_kernel_quantize(name.encode(), pointers[0], 1, 64, 128, *pointers[1:], error, 512)
        if code != 0 or not np.allclose(rows * scale, x, atol=scale / 2 * 1.001):
            sys.exit(f"{name}: wrong rows ({error.value.decode()})")
    return ", ".join(names)


def main() -> None:
    """Exit with a message where something does not work."""
    subprocess.run([sys.executable, "-m", "embedrt", "--version"], check=True)
    try:
        found = try_native()
    except DependencyError as exc:
        if sys.platform != "win32":
            sys.exit(str(exc))
        found = "no native module, as it should be on Windows"
    print(f"native: {found}")


if __name__ == "__main__":
    main()
