"""Fonts for pictures that matplotlib draws: those installed that have the characters needed."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

from embedrt.errors import DependencyError

# Beginnings of file names, best first: what Linux, macOS and Windows ship or install for scripts that
# matplotlib's own DejaVu Sans lacks.
_PREFERRED = (
    "notosanscjk-regular", "notosanscjk", "notosanskr", "nanumgothic.", "nanumbarungothic.", "applesdgothicneo",
    "malgun.", "notosansjp", "notosanssc", "sourcehansans", "hiragino", "pingfang", "msyh.", "yugoth", "msgothic",
    "wqy", "unifont", "notosans-regular", "notosans",
)  # fmt: skip

_CJK = ("CJK", "HANGUL", "HIRAGANA", "KATAKANA", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH")


def import_matplotlib() -> tuple[Any, Any]:
    """matplotlib's Figure class and its colors module.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        from matplotlib import colors
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise DependencyError("this picture needs matplotlib: pip install 'embedrt[plot]'") from exc
    return Figure, colors


def families_for(text: str) -> list[str]:
    """Font families that together have all characters of `text`, as a fallback list for matplotlib.

    The installed files are looked at directly: matplotlib's own list is cached and misses fonts installed since.

    Raises:
        LookupError: no installed font has some characters; its first argument says which, and what to install.
    """
    from matplotlib import font_manager

    families = ["DejaVu Sans"]  # comes with matplotlib
    missing = _drawn(text) - _characters(font_manager.findfont("DejaVu Sans"))
    if missing:
        for path in sorted(font_manager.findSystemFonts(), key=_rank):
            gained = missing & _characters(path)
            if gained:
                font_manager.fontManager.addfont(path)
                families.append(font_manager.get_font(path).family_name)
                missing -= gained
            if not missing:
                break
    if missing:
        shown = " ".join(f"{chr(c)} (U+{c:04X})" for c in sorted(missing)[:4]) + (" ..." if len(missing) > 4 else "")
        packages = " ".join(sorted({_package(chr(c)) for c in missing}))
        raise LookupError(f"no installed font has {shown}; install one (apt install {packages})")
    return families


def _package(char: str) -> str:
    """Debian's package with a font that has a character, and that matplotlib can draw."""
    if unicodedata.name(char, "").startswith(_CJK):
        return "fonts-noto-cjk"
    # Emoji of other fonts are colour bitmaps, which matplotlib does not draw.
    return "fonts-symbola" if unicodedata.category(char) in ("So", "Sk") else "fonts-noto-core"


def _drawn(text: str) -> set[int]:
    """Code points that need a glyph: no spaces, controls or invisible joiners."""
    return {ord(c) for c in text if not c.isspace() and unicodedata.category(c) not in ("Cc", "Cf", "Mn")}


def _characters(path: str) -> set[int]:
    """Code points that a font file has; none if it cannot be used."""
    from matplotlib import font_manager

    try:
        return set(font_manager.get_font(path).get_charmap())
    except (OSError, RuntimeError, ValueError):  # a colour bitmap font, a broken file
        return set()


def _rank(path: str) -> tuple[int, bool, str]:
    """Preferred families first, upright regular faces before others."""
    name = Path(path).name.lower()
    place = next((i for i, start in enumerate(_PREFERRED) if name.startswith(start)), len(_PREFERRED))
    slanted_or_heavy = any(word in name for word in ("bold", "italic", "oblique", "black", "thin", "serif"))
    return place, slanted_or_heavy, path
