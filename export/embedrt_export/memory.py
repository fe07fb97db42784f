"""Memory that was freed, and that Python and the C library keep for later."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """Give it back to the system: after a large model is dropped gigabytes, in blocks under 32 MiB, would stay.

    Only glibc can; elsewhere this is a garbage collection.
    """
    gc.collect()
    with suppress(AttributeError, OSError, TypeError):  # another C library; TypeError: Windows has no CDLL(None)
        ctypes.CDLL(None).malloc_trim(0)
