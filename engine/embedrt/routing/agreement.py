"""Which identities may stand behind the names: one each, for as long as the front runs. Pure.

Vectors of two models in one index find nonsense, and nobody sees it. So every server must serve the same names in the
same order (the first is the default) with the same identities; what differs gets no request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from embedrt.server.pins import against_pins

Identities = Mapping[str, str]  # by name, the default first


class Agreement:
    """What the servers have agreed on.

    Args:
        pinned: identities by name that must be served, whatever the servers tell.
    """

    def __init__(self, pinned: Identities | None = None) -> None:
        self._pinned = dict(pinned or {})
        self.settled: Identities | None = None

    def settle(self, told: Iterable[Identities]) -> str | None:
        """Agree on what all servers that are ready tell, once; the reason why they do not agree, or None.

        A server that differs from the pinned identities has no say.
        """
        if self.settled is not None:
            return None
        every = [one for one in told if against_pins(self._pinned, one) is None]
        if not every:
            return None
        for one in every[1:]:
            if (wrong := _difference(every[0], one)) is not None:
                return f"servers differ: {wrong}; stop some, or say which is meant with --identity NAME=IDENTITY"
        self.settled = dict(every[0])
        return None

    def against(self, told: Identities) -> str | None:
        """Why a server that tells this gets no request; None where it may have some."""
        if (wrong := against_pins(self._pinned, told)) is not None:
            return wrong
        if self.settled is None:
            return "the servers have not agreed on what they serve yet"
        return _difference(self.settled, told)


def _difference(wanted: Identities, told: Identities) -> str | None:
    for name, identity in wanted.items():
        if name not in told:
            return f"{name} is not served"
        if told[name] != identity:
            return f"{name} is {told[name]}, elsewhere {identity}: their vectors must not be mixed"
    for name in told:
        if name not in wanted:
            return f"{name} is served, and elsewhere it is not"
    first, other = next(iter(wanted), ""), next(iter(told), "")
    return None if first == other else f"the default is {other}, elsewhere {first}"
