"""What a run says of itself while it runs. Pure."""

from __future__ import annotations

from embedrt.datasets.run import Heard


def progress_line(start: Heard, now: Heard, price_per_hour: float | None = None) -> str:
    """Shares, rates of this run, the time left at its rate, and what it has cost.

    Args:
        start: what was heard before the first shard: work of earlier runs counts for no rate.
        now: what was heard last.
        price_per_hour: of all machines together, in whatever money.
    """
    seconds = max(1e-9, now.seconds - start.seconds)
    rows, tokens = now.done.rows - start.done.rows, now.done.tokens - start.done.tokens
    left_tokens = now.totals.tokens - now.done.tokens
    share = 100 * now.done.rows / max(1, now.totals.rows)
    parts = [
        f"{share:5.1f} %  {now.done.shards:,}/{now.totals.shards:,} shards",
        f"{rows / seconds:,.0f} texts/s",
        f"{tokens / seconds:,.0f} tokens/s (estimated)",
        f"{duration(left_tokens * seconds / tokens)} left" if tokens else "no rate yet",
    ]
    if price_per_hour is not None:
        spent = price_per_hour * now.seconds / 3600
        whole = price_per_hour * (now.seconds + (left_tokens * seconds / tokens if tokens else 0)) / 3600
        parts.append(f"cost {spent:,.2f} of about {whole:,.2f}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """ "3 d 4 h", "2 h 5 min", "40 s"."""
    whole = round(seconds)
    for size, name, rest, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // rest} {small}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
