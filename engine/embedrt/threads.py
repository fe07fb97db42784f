"""Work on a thread beside the caller's, where one can be had."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")


def begin(pool: ThreadPoolExecutor, work: Callable[..., B], *args: Any) -> Future[B]:
    """Start `work` on a thread of `pool`.

    Where no thread can be started, because the interpreter is ending (`atexit`) or the process may have no more of
    them, it is done here and now.
    """
    try:
        return pool.submit(work, *args)
    except RuntimeError:
        done: Future[B] = Future()
        try:
            done.set_result(work(*args))
        except Exception as exc:
            done.set_exception(exc)
        return done


def one_ahead(work: Callable[[A], B], items: Iterator[A], name: str) -> Iterator[tuple[A, B]]:
    """Each item with what `work` makes of it: the next item's is made while the caller has this one.

    One item alone is worked on in the calling thread, without the cost of another. `name` is the thread's.
    """
    end = object()
    current: Any = next(items, end)
    if current is end:
        return
    result = work(current)
    following: Any = next(items, end)
    if following is not end:
        with ThreadPoolExecutor(1, thread_name_prefix=name) as pool:
            while following is not end:
                pending = begin(pool, work, following)
                yield current, result
                current, result = following, pending.result()
                following = next(items, end)
    yield current, result


def side_by_side(work: Callable[[A], B], items: Iterable[A], lanes: int, name: str) -> Iterator[B]:
    """What `work` makes of each item, in order; `lanes` are worked on at once, one alone in the calling thread.

    No more are begun before the first of them is taken, so that no more outcomes are held. `name` is the threads'.
    """
    if lanes == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(lanes, thread_name_prefix=name) as pool:
        try:
            for item in items:
                if len(waiting) == lanes:
                    yield waiting.popleft().result()
                waiting.append(begin(pool, work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for pending in waiting:
                pending.cancel()
