"""Identities that names must have: NAME=IDENTITY, as operators give them to servers and to the front before them."""

from __future__ import annotations

from collections.abc import Mapping

from embedrt.errors import OptionError


def parse_pins(given: tuple[str, ...]) -> dict[str, str]:
    """Identities by name, out of NAME=IDENTITY each.

    Raises:
        OptionError: not of that form, or a name has two.
    """
    found: dict[str, str] = {}
    for text in given:
        name, _, identity = text.rpartition("=")
        if not name or not identity:
            raise OptionError(f"identity must be NAME=IDENTITY, not {text!r}; /health/ready of a server tells them")
        if found.setdefault(name, identity) != identity:
            raise OptionError(f"identity: {name} has two; one name has one identity")
    return found


def against_pins(pins: Mapping[str, str], told: Mapping[str, str]) -> str | None:
    """Why what is served is not what must be; None where it is."""
    for name, identity in pins.items():
        if name not in told:
            return f"{name} must be {identity} (--identity), and no such name is served; there are: {', '.join(told)}"
        if told[name] != identity:
            return (
                f"{name} must be {identity} (--identity), and is {told[name]}; another model needs another name, or a "
                "place of its own"
            )
    return None
