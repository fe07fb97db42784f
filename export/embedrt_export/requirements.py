"""The packages that the exporter stands on, checked by their versions before any of them is imported.

The ranges are the extra `export` of this distribution; importing a package outside its range ends somewhere inside
another one, in an error that names neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from embedrt.errors import DependencyError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION, EXTRA = "embedrt", "export"
_INSTALL = f"pip install '{DISTRIBUTION}[{EXTRA}]'"


@dataclass(frozen=True)
class Misfit:
    """A package that the exporter cannot use as it is installed."""

    name: str
    wanted: str  # the range, e.g. ">=4.48"
    installed: str | None  # None: not at all


def check_installed() -> None:
    """Refuse packages that are missing or of a version that does not fit.

    Raises:
        DependencyError: the message names each with its range, and the command that mends it.
    """
    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return  # run from sources that were never installed: nothing says what fits
    misfits = find_misfits(declared, installed_version)
    if misfits:
        raise DependencyError(describe(misfits))


def find_misfits(declared: Sequence[str], version_of: Callable[[str], str | None]) -> tuple[Misfit, ...]:
    """Which of the extra's requirements `version_of` does not meet, in the order of `declared`."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # comes with transformers
        return (Misfit("packaging", "", None),)
    misfits = []
    for requirement in map(Requirement, declared):
        installed = version_of(requirement.name)
        if _of_extra(requirement) and not (installed and requirement.specifier.contains(installed, prereleases=True)):
            misfits.append(Misfit(requirement.name, str(requirement.specifier), installed))
    return tuple(misfits)


def find_outdated(saved: Mapping[str, str], version_of: Callable[[str], str | None]) -> tuple[Misfit, ...]:
    """Packages of which a newer version than the installed one saved a model; `saved` has what its files say."""
    from packaging.version import InvalidVersion, Version

    outdated = []
    for name, version in saved.items():
        installed = version_of(name)
        try:
            newer = installed is not None and Version(version) > Version(installed)
        except InvalidVersion:  # whatever somebody wrote there
            continue
        if newer:
            outdated.append(Misfit(name, f">={version}", installed))
    return tuple(outdated)


def describe(misfits: Sequence[Misfit]) -> str:
    """One line: what does not fit, what would, and the command."""
    missing = [misfit.name for misfit in misfits if misfit.installed is None]
    other = [misfit for misfit in misfits if misfit.installed is not None]
    if not other:
        return f"this needs {', '.join(missing)}, not installed: {_INSTALL}"
    said = [f"{m.name}{m.wanted} (installed: {m.installed})" for m in other] + [f"{n} (not installed)" for n in missing]
    exact = " ".join(f"'{m.name}{m.wanted}'" for m in misfits)
    return (
        f"this needs {', '.join(said)}: pip install {exact}; where something else needs the installed versions, "
        f"make an environment for exports alone, with {_INSTALL}: bundles run without these packages"
    )


def _of_extra(requirement: Requirement) -> bool:
    """Whether only the extra asks for it, and on this machine."""
    marker = requirement.marker
    return marker is not None and marker.evaluate({"extra": EXTRA}) and not marker.evaluate({"extra": ""})


def installed_version(name: str) -> str | None:
    """None where the distribution is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
