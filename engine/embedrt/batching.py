"""Which texts run together. Pure: token counts in, groups of indices out; no I/O, no floats.

A group is padded by the ONNX Runtime executor to its longest text, so a group of n texts costs n * longest
tokens, and each group costs a fixed overhead besides. The native executor pads nothing. Texts are taken longest
first, because then each group's first text is its longest and the largest buffers come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BatchLimits:
    """What one run of the executor may hold."""

    # 1-2 thousand tokens keep the kernels fed and the activations in cache; above that nothing is gained.
    budget_tokens: int = 1024  # padded tokens of a group; a longer single text goes alone
    max_texts: int = 256
    # A run of its own costs as much as this many tokens of padding (16-30 measured on XLM-R-large and MiniLM).
    overhead_tokens: int = 24
    pads: bool = True  # False: a group costs its own tokens, whatever the lengths in it


def plan_groups(num_tokens: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """Group texts of `num_tokens` so that little is padded; every index is in exactly one group.

    Longest first; a group is closed when the next text would break the budget, or when its padding has come to
    cost more than a run of its own. Equal lengths are never padded.
    """
    order = sorted(range(len(num_tokens)), key=lambda i: (-num_tokens[i], i))
    groups: list[list[int]] = []
    longest = padding = total = 0
    for i in order:
        gap = longest - num_tokens[i] if limits.pads else 0
        cost = (len(groups[-1]) + 1) * longest if groups and limits.pads else total + num_tokens[i]
        if (
            groups
            and cost <= limits.budget_tokens
            and len(groups[-1]) < limits.max_texts
            and padding + gap <= limits.overhead_tokens
        ):
            groups[-1].append(i)
            padding += gap
            total += num_tokens[i]
        else:
            groups.append([i])
            longest, padding, total = num_tokens[i], 0, num_tokens[i]
    return groups
