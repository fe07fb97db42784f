"""Locks on open files, which the system lets go of however their process ends."""

from __future__ import annotations

from types import ModuleType


def hold(descriptor: int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock the open file until it is closed; False where the system has no such locks (Windows).

    Args:
        descriptor: of a file or a folder.
        shared: others may hold it too, if they share it as well.
        wait: until nobody else holds it.

    Raises:
        BlockingIOError: somebody holds it, and the call was not to wait.
    """
    fcntl = _fcntl()
    if fcntl is None:
        return False
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(descriptor, how if wait else how | fcntl.LOCK_NB)
    return True


def available() -> bool:
    """Whether the system has such locks."""
    return _fcntl() is not None


def _fcntl() -> ModuleType | None:
    try:
        import fcntl
    except ImportError:
        return None
    return fcntl
