"""Load time and memory of a model, measured in a process of its own.

The process gets BUNDLE VARIANT DEVICE EXECUTOR ISA THREADS as arguments and a JSON list of texts on stdin, and writes
one JSON object to stdout.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from embedrt.errors import ExecutorError

# Run with -c, because -m would import the package before the clock starts.
_PROGRAM = f"""
import sys, time
start = time.perf_counter()
from embedrt import Embedder
imported = time.perf_counter()
from {__name__} import main
main(sys.argv[1:], imported - start)
"""


@dataclass(frozen=True)
class Probe:
    """What a fresh process saw. Bytes of resident memory; 0 where the system does not tell."""

    executor: str  # what runs the variant: "native" or "onnxruntime"
    import_s: float  # of embedrt with numpy, tokenizers, onnxruntime
    load_s: float  # Embedder(...) and a first short text; files in the page cache, hashes not read
    rss_import_bytes: int
    rss_loaded_bytes: int
    rss_peak_bytes: int  # after the largest batch of the benchmark


def run_probe(
    bundle: Path, variant: str, *, device: str, executor: str, isa: str, num_threads: int, texts: list[str]
) -> Probe:
    """Load the variant in a new process, and embed `texts` there.

    Raises:
        ExecutorError: the process failed.
    """
    command = [sys.executable, "-c", _PROGRAM, str(bundle), variant, device, executor, isa, str(num_threads)]
    done = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise ExecutorError(f"the process that measures loading failed: {reason[0]}")
    return Probe(**json.loads(done.stdout))


def memory() -> tuple[int, int]:
    """Resident bytes of this process, now and at most."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        return tuple(int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]  # two names, two numbers
    except (OSError, KeyError, ValueError):
        return 0, 0


def main(argv: list[str], import_s: float) -> None:
    """Measure this process."""
    from embedrt.embedder import Embedder

    rss_import = memory()[0]
    bundle, variant, device, executor, isa, threads = argv
    start = time.perf_counter()
    embedder = Embedder(
        bundle,
        variant=variant,  # type: ignore[arg-type]  # Embedder checks it
        device=device,  # type: ignore[arg-type]  # Embedder checks it
        executor=executor,  # type: ignore[arg-type]  # Embedder checks it
        isa=isa,
        num_threads=int(threads),
        verify_hashes=False,
    )
    embedder.encode("a")
    load_s = time.perf_counter() - start
    rss_loaded = memory()[0]
    embedder.encode(json.load(sys.stdin))
    print(json.dumps(asdict(Probe(embedder.executor, import_s, load_s, rss_import, rss_loaded, memory()[1]))))
