"""A process from its first line to its first vector, with the seconds of each part: what `bench.cold_start` runs."""

import sys
import time

began = time.time()
clock = time.perf_counter


def timed(owner: object, name: str, part: str) -> None:
    """Replace a function by one that notes how long it takes."""
    function = getattr(owner, name)

    def noted(*given: object, **named: object) -> object:
        start = clock()
        try:
            return function(*given, **named)
        finally:
            found[part] = clock() - start

    setattr(owner, name, noted)


bundle, variant, packed = sys.argv[1:]
found = {"began": began}
start = clock()
import numpy as np  # noqa: E402

found["import numpy"] = clock() - start
start = clock()
from embedrt import Embedder  # noqa: E402

found["import embedrt"] = clock() - start
from embedrt import loading  # noqa: E402
from embedrt.bundle import Bundle  # noqa: E402

timed(Bundle, "check_hashes", "hashes")
timed(loading, "load_executor", "weights")
timed(loading, "_read_tokenizer", "tokenizer")
start = clock()
model = Embedder(bundle, variant=variant, packed_cache=packed == "packed")  # type: ignore[arg-type]
found["open"] = clock() - start
start = clock()
vector = model.encode("weather in Seoul")
found["first text"] = clock() - start
assert np.isfinite(vector).all()
found["ended"] = time.time()
print(repr(found))
