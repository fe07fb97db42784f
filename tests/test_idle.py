"""An embedder that waits takes no CPU: ONNX Runtime's threads spin for a while after a run unless told not to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# CPU time, not time on the clock: what else the machine does makes no difference.
WAIT = """
import sys, time
from embedrt import Embedder
with Embedder(sys.argv[1], num_threads=2) as embedder:
    for _ in range(3):
        embedder.encode_detailed([f"fox {i} dog " * 40 for i in range(64)])
    used = time.process_time()
    time.sleep(0.5)
    print(time.process_time() - used)
"""


def test_an_idle_embedder_takes_no_cpu_time(tiny_bundle: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", WAIT, str(tiny_bundle)], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 0.01  # 0.0001 without spinning, 0.04 with it
