"""A similarity matrix as a picture: .svg and .html with text kept as text, .png through matplotlib."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

from embedrt.commands.labels import label, width
from embedrt.commands.similarity import SimilarityMatrix
from embedrt.errors import FileFormatError

_CELL = 44  # px
_FONT_SIZE = 13  # px
_COLUMN = 7.4  # px; half of a full-width character, and a little over a Latin letter
_LABEL_COLUMNS = 44
_MAX_NUMBERS = 30  # cells are numbered up to so many texts
_FONTS = (
    "system-ui, 'Noto Sans', 'Noto Sans CJK KR', 'Noto Sans KR', 'Apple SD Gothic Neo', 'Malgun Gothic', "
    "'Noto Sans CJK JP', 'Hiragino Sans', 'Microsoft YaHei', sans-serif"
)
# Light to dark, a multi-hue scale that stays ordered in grey (ColorBrewer YlGnBu, Apache-2.0).
_SCALE = ((255, 255, 217), (199, 233, 180), (65, 182, 196), (34, 94, 168), (8, 29, 88))


def draw(matrix: SimilarityMatrix, path: Path) -> None:
    """Write the picture in the format of the suffix.

    Raises:
        FileFormatError: no installed font has the labels' characters (.png only).
        DependencyError: matplotlib is missing (.png only).
    """
    _FORMATS[path.suffix.lower()](matrix, path)


def svg(matrix: SimilarityMatrix) -> str:
    """The heat map as SVG. It holds no font: whoever shows it uses its own."""
    count = len(matrix.texts)
    labels = [f"{i}  {label(text, _LABEL_COLUMNS)}" for i, text in enumerate(matrix.texts, start=1)]
    left = round(max(width(text) for text in labels) * _COLUMN) + 20
    top = 56
    size = (max(left + count * _CELL + 16, 420), top + count * _CELL + 16)
    low, high = matrix.range()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
        f'height="{size[1]}" font-family="{_FONTS}" font-size="{_FONT_SIZE}">',
        f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>',
        f'<text x="12" y="22" fill="#555">{matrix.function} similarity, {low:.3f} to {high:.3f} '
        f"off the diagonal</text>",
    ]
    for i, text in enumerate(labels):
        middle = top + i * _CELL + _CELL / 2 + 5
        parts.append(f'<text x="{left - 8}" y="{middle:g}" text-anchor="end">{html.escape(text)}</text>')
        center = left + i * _CELL + _CELL / 2
        parts.append(f'<text x="{center:g}" y="{top - 8}" text-anchor="middle" fill="#555">{i + 1}</text>')
        parts += [_cell(matrix, i, j, (left, top)) for j in range(count)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def colour(share: float) -> tuple[int, int, int]:
    """The scale's colour at `share` of its length, 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(_SCALE) - 1)
    index = min(int(place), len(_SCALE) - 2)
    part = place - index
    first, second = _SCALE[index], _SCALE[index + 1]
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue


def share_of(value: float, low: float, high: float) -> float:
    """Where `value` lies between `low` and `high`."""
    return (value - low) / (high - low) if high > low else 0.5


def _cell(matrix: SimilarityMatrix, i: int, j: int, corner: tuple[int, int]) -> str:
    value = float(matrix.values[i, j])
    share = share_of(value, *matrix.range())
    red, green, blue = colour(share)
    x, y = corner[0] + j * _CELL, corner[1] + i * _CELL
    title = f"<title>{i + 1} and {j + 1}: {value:.4f}</title>"
    fill = f"rgb({red},{green},{blue})"
    rect = f'<rect x="{x}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}" fill="{fill}">{title}</rect>'
    if len(matrix.texts) > _MAX_NUMBERS:
        return rect
    ink = "#fff" if share > 0.55 else "#222"
    return (
        f'{rect}<text x="{x + _CELL / 2:g}" y="{y + _CELL / 2 + 4:g}" text-anchor="middle" font-size="11" '
        f'fill="{ink}" pointer-events="none">{value:.2f}</text>'
    )


def _write_svg(matrix: SimilarityMatrix, path: Path) -> None:
    path.write_text(svg(matrix), encoding="utf-8")


def _write_html(matrix: SimilarityMatrix, path: Path) -> None:
    page = (
        '<!doctype html>\n<html><head><meta charset="utf-8"><title>Similarity</title>'
        f"<style>body{{margin:2em;background:#fff;color:#222;font:14px {_FONTS}}}</style></head>\n<body>\n"
        f"{svg(matrix)}<p>identity {html.escape(matrix.identity)}</p>\n</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _write_png(matrix: SimilarityMatrix, path: Path) -> None:
    from embedrt.commands.fonts import families_for, import_matplotlib

    figure_class, colors = import_matplotlib()
    labels = [f"{i}  {label(text, _LABEL_COLUMNS)}" for i, text in enumerate(matrix.texts, start=1)]
    try:
        families = families_for("".join(labels))
    except LookupError as exc:
        raise FileFormatError(
            f"{path} was not drawn: no installed font has the characters {exc.args[0]}; install one "
            "(apt install fonts-noto-cjk has Korean, Japanese and Chinese), or write .html or .svg, "
            "which use the browser's fonts"
        ) from exc
    count, (low, high) = len(labels), matrix.range()
    left = max(width(text) for text in labels) * 0.075 + 0.3  # inches
    side = max(count * 0.46, 1.4)
    figure = figure_class(figsize=(left + side + 0.3, side + 0.7), dpi=150)
    axes = figure.add_axes(
        (left / (left + side + 0.3), 0.15 / (side + 0.7), side / (left + side + 0.3), side / (side + 0.7))
    )
    scale = colors.LinearSegmentedColormap.from_list("similarity", [tuple(c / 255 for c in rgb) for rgb in _SCALE])
    axes.imshow(matrix.values, cmap=scale, vmin=low, vmax=max(high, low + 1e-6), aspect="auto")
    axes.set_xticks(range(count), [str(i + 1) for i in range(count)], family=families, fontsize=9)
    axes.set_yticks(range(count), labels, family=families, fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if count <= _MAX_NUMBERS:
        for i in range(count):
            for j in range(count):
                ink = "white" if share_of(float(matrix.values[i, j]), low, high) > 0.55 else "#222222"
                axes.text(j, i, f"{matrix.values[i, j]:.2f}", ha="center", va="center", fontsize=8, color=ink)
    figure.savefig(path)


_FORMATS: dict[str, Callable[[SimilarityMatrix, Path], None]] = {
    ".svg": _write_svg,
    ".html": _write_html,
    ".png": _write_png,
}
SUFFIXES = tuple(_FORMATS)
