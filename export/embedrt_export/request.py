"""What an export is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedrt.errors import OptionError
from embedrt.manifest import VARIANT_NAMES
from embedrt_export.calibration import read_calibration
from embedrt_export.int8 import RECIPES
from embedrt_export.prompts import choose_prompts
from embedrt_export.trim import Kept


@dataclass(frozen=True)
class ExportRequest:
    """What is made of a model: arguments of `embedrt_export.export`, checked before any work is done.

    Raises:
        OptionError: an int8 recipe that is not known, or a file that cannot be read.
    """

    out: Path
    variants: tuple[str, ...]  # of `known_variants`
    pooling: str | None
    max_tokens: int | None
    prompts: Path | None
    calibration: Path | None
    int8_recipe: str
    name: str | None
    num_threads: int
    pictures_from: str | None
    kept: Kept = field(default_factory=Kept)

    def __post_init__(self) -> None:
        if self.int8_recipe not in RECIPES:
            raise OptionError(f"int8_recipe must be one of {', '.join(RECIPES)}, not {self.int8_recipe!r}")
        if self.prompts is not None:
            choose_prompts({}, None, None, self.prompts)
        if self.calibration is not None:
            read_calibration(self.calibration)
        self.kept.check()


def known_variants(names: Sequence[str]) -> tuple[str, ...]:
    """The variants with these names, each once, in the order in which they are made.

    Raises:
        OptionError: there is none, or one is not known.
    """
    for name in names:
        if name not in VARIANT_NAMES:
            raise OptionError(f"variants must be of {', '.join(VARIANT_NAMES)}, not {name!r}")
    if not names:
        raise OptionError(f"no variants given; choose from {', '.join(VARIANT_NAMES)}")
    return tuple(name for name in VARIANT_NAMES if name in names)
