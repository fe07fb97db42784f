"""A similarity matrix as a picture: .svg and .html with text kept as text, .png through matplotlib."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedrt.commands.labels import label, width
from embedrt.commands.similarity import SimilarityMatrix
from embedrt.commands.tables import write_aside, write_whole
from embedrt.errors import FileFormatError
from embedrt.pictures.thumbnails import thumbnail, thumbnail_uri

_CELL = 44  # px
_THUMBNAIL = 40  # px of a picture's edge, in the place of its name
_FONT_SIZE = 13  # px
_COLUMN = 7.4  # px; half of a full-width character, and a little over a Latin letter
_LABEL_COLUMNS = 44
_NUMBER = 26  # px for the row's number, between label and cells
_MARGIN = 16  # px
_MAX_NUMBERS = 30  # cells are numbered up to so many texts
FONTS = (
    "system-ui, 'Noto Sans', 'Noto Sans CJK KR', 'Noto Sans KR', 'Apple SD Gothic Neo', 'Malgun Gothic', "
    "'Noto Sans CJK JP', 'Hiragino Sans', 'Microsoft YaHei', sans-serif"
)
# Light to dark, a multi-hue scale that stays ordered in grey (ColorBrewer YlGnBu, Apache-2.0).
_SCALE = ((255, 255, 217), (199, 233, 180), (65, 182, 196), (34, 94, 168), (8, 29, 88))
_DIAGONAL = ("#eceef1", "#8a919c")  # fill and ink: a text beside itself says nothing, and is off the scale
_INK = ("#222222", "#ffffff")  # on light and on dark cells


def draw(matrix: SimilarityMatrix, path: Path) -> None:
    """Write the picture in the format of the suffix.

    Raises:
        FileFormatError: no installed font has the labels' characters (.png only), or the disk is full.
        DependencyError: matplotlib is missing (.png only).
    """
    _FORMATS[path.suffix.lower()](matrix, path)


def svg(matrix: SimilarityMatrix) -> str:
    """The heat map as SVG. It holds no font: whoever shows it uses its own."""
    count = len(matrix.texts)
    labels = [label(text, _LABEL_COLUMNS) for text in matrix.texts]
    left = max(round(max(width(text) for text in labels) * _COLUMN), 60) + _MARGIN + _NUMBER + 8
    top = 112
    size = (max(left + count * _CELL + _MARGIN, 380), top + count * _CELL + _MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
        f'height="{size[1]}" font-family="{FONTS}" font-size="{_FONT_SIZE}">',
        f'<rect width="{size[0]}" height="{size[1]}" fill="#fff"/>',
        *_heading(matrix),
    ]
    for i, text in enumerate(labels):
        middle, center = top + i * _CELL + _CELL / 2 + 4, left + i * _CELL + _CELL / 2
        # The number is a text of its own: beside Arabic or Hebrew it would change sides.
        end = f'x="{left - _NUMBER - 4}" y="{middle:g}" text-anchor="end"'
        if i in matrix.pictures:
            place = f'x="{left - _NUMBER - 4 - _THUMBNAIL}" y="{top + i * _CELL + (_CELL - _THUMBNAIL) / 2:g}"'
            size_ = f'width="{_THUMBNAIL}" height="{_THUMBNAIL}"'
            picture = thumbnail_uri(Path(matrix.texts[i]), 2 * _THUMBNAIL)
            parts.append(
                f'<image {place} {size_} href="{picture}"><title>{html.escape(matrix.texts[i])}</title></image>'
            )
        else:
            parts.append(f'<text {end} fill="#222">{html.escape(text)}</text>')
        parts.append(f'<text x="{left - 8}" y="{middle:g}" text-anchor="end" fill="#8a919c">{i + 1}</text>')
        parts.append(f'<text x="{center:g}" y="{top - 8}" text-anchor="middle" fill="#8a919c">{i + 1}</text>')
        parts += [_cell(matrix, i, j, (left, top)) for j in range(count)]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _heading(matrix: SimilarityMatrix) -> list[str]:
    """What is shown, the scale of the colours, and the part of it that these texts take."""
    low, high = matrix.scale()
    stops = "".join(f'<stop offset="{i / (len(_SCALE) - 1):g}" stop-color="rgb{rgb}"/>' for i, rgb in enumerate(_SCALE))
    x, length = _MARGIN + 46, 180
    first, last = (x + min(max(share_of(value, low, high), 0), 1) * length for value in matrix.range())
    return [
        f'<defs><linearGradient id="scale">{stops}</linearGradient></defs>',
        f'<text x="{_MARGIN}" y="26" font-size="15" font-weight="600" fill="#222">{title_of(matrix)}</text>',
        f'<text x="{x - 8}" y="52" text-anchor="end" fill="#555">{low:.2f}</text>',
        f'<rect x="{x}" y="42" width="{length}" height="12" rx="2" fill="url(#scale)" stroke="#d9dde3"/>',
        f'<text x="{x + length + 8}" y="52" fill="#555">{high:.2f}</text>',
        f'<path d="M{first:g} 62V58H{max(last, first + 1):g}V62" fill="none" stroke="#222"/>',
        f'<text x="{_MARGIN}" y="78" font-size="11" fill="#555">{note_of(matrix)}</text>',
    ]


def note_of(matrix: SimilarityMatrix) -> str:
    """What the colours mean, in words."""
    low, high = matrix.range()
    fixed = "colors from 0 to 1 in every picture" if matrix.function == "cosine" else "one end of the colors is 0"
    return f"these texts: {low:.2f} to {high:.2f}; {fixed}"


def title_of(matrix: SimilarityMatrix) -> str:
    """The heading of every picture."""
    return f"{matrix.function.capitalize()} similarity of {len(matrix.texts)} texts"


def colour(share: float) -> tuple[int, int, int]:
    """The scale's colour at `share` of its length, 0 to 1."""
    place = min(max(share, 0.0), 1.0) * (len(_SCALE) - 1)
    index = min(int(place), len(_SCALE) - 2)
    part = place - index
    first, second = _SCALE[index], _SCALE[index + 1]
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue


DARK = 0.55  # from this share on, the ink is white


def share_of(value: float, low: float, high: float) -> float:
    """Where `value` lies between `low` and `high`."""
    return (value - low) / (high - low) if high > low else 0.5


def _colours(matrix: SimilarityMatrix, i: int, j: int) -> tuple[str, str]:
    """Fill and ink of a cell."""
    if i == j:
        return _DIAGONAL
    share = share_of(float(matrix.values[i, j]), *matrix.scale())
    return "rgb({},{},{})".format(*colour(share)), _INK[share > DARK]


def _cell(matrix: SimilarityMatrix, i: int, j: int, corner: tuple[int, int]) -> str:
    value = float(matrix.values[i, j])
    fill, ink = _colours(matrix, i, j)
    x, y = corner[0] + j * _CELL, corner[1] + i * _CELL
    title = f"<title>{i + 1} and {j + 1}: {value:.4f}</title>"
    rect = f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_CELL - 2}" rx="3" fill="{fill}">{title}</rect>'
    if len(matrix.texts) > _MAX_NUMBERS:
        return rect
    return (
        f'{rect}<text x="{x + _CELL / 2 - 1:g}" y="{y + _CELL / 2 + 3:g}" text-anchor="middle" font-size="11" '
        f'fill="{ink}" pointer-events="none">{value + 0:.2f}</text>'
    )


def _write_svg(matrix: SimilarityMatrix, path: Path) -> None:
    write_whole(path, svg(matrix))


def _write_html(matrix: SimilarityMatrix, path: Path) -> None:
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title_of(matrix)}</title>'
        f"<style>body{{margin:1.5em;background:#fff;color:#555;font:13px {FONTS}}}svg{{max-width:100%;height:auto}}"
        f"</style></head>\n<body>\n{svg(matrix)}"
        f'<p style="margin-left:{_MARGIN}px">identity {html.escape(matrix.identity)}</p>\n</body></html>\n'
    )
    write_whole(path, page)


def _write_png(matrix: SimilarityMatrix, path: Path) -> None:
    from embedrt.commands.fonts import families_for, import_matplotlib

    figure_class, colors = import_matplotlib()
    labels = [label(text, _LABEL_COLUMNS) for text in matrix.texts]
    try:
        families = families_for("".join(labels))
    except LookupError as exc:
        raise FileFormatError(
            f"{path} was not drawn: {exc.args[0]}, or write .html or .svg, which use the browser's fonts"
        ) from exc
    count = len(labels)
    left = max(max(width(text) for text in labels) * 0.075, 0.6) + 0.6  # inches
    side, above = max(count * 0.46, 1.4), 1.15
    across, down = max(left + side + 0.25, 3.2), side + above + 0.2
    figure = figure_class(figsize=(across, down), dpi=150)
    axes = figure.add_axes((left / across, 0.2 / down, side / across, side / down))
    _paint(axes, matrix, colors)
    for i, text in enumerate(labels):
        if i in matrix.pictures:
            picture = thumbnail(Path(matrix.texts[i]), 2 * _THUMBNAIL)
            edge = 0.4  # inches
            corner = ((left - 0.36 - edge) / across, (side - (i + 0.5) * side / count - edge / 2 + 0.2) / down)
            frame = figure.add_axes((*corner, edge / across, edge / down))
            frame.imshow(np.asarray(picture))
            frame.axis("off")
            continue
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "center"}
        axes.annotate(text, (0, i), (-26, 0), family=families, fontsize=9, color=_INK[0], **place)
    figure.text(0.15 / across, 1 - 0.28 / down, title_of(matrix), fontsize=10, weight="bold", color=_INK[0])
    _legend(figure, matrix, (across, down))
    note = f"{note_of(matrix)}; identity {matrix.identity}"
    figure.text(0.15 / across, 1 - 0.78 / down, note, fontsize=7, color="#555555")
    write_aside(path, lambda part: figure.savefig(part, format="png"), hint="")


def _legend(figure: Any, matrix: SimilarityMatrix, size: tuple[float, float]) -> None:
    """The scale of the colours with its ends, on a figure of some inches, and a line over the part that is taken."""
    across, down = size
    low, high = matrix.scale()
    left, length, y = 0.5, 1.4, 1 - 0.58 / down
    axes = figure.add_axes((left / across, y, length / across, 0.1 / down))
    axes.imshow([[colour(i / 255) for i in range(256)]], aspect="auto", extent=(0, 1, 0, 1))
    axes.axis("off")
    first, last = (min(max(share_of(value, low, high), 0), 1) for value in matrix.range())
    axes.plot([first, max(last, first + 0.01)], [-0.4, -0.4], color=_INK[0], linewidth=1.2, clip_on=False)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    for value, x, side in ((low, left - 0.05, "right"), (high, left + length + 0.05, "left")):
        figure.text(x / across, y, f"{value:.2f}", fontsize=7, color="#555555", ha=side)


def _paint(axes: Any, matrix: SimilarityMatrix, colors: Any) -> None:
    """Cells and their numbers, onto matplotlib's axes."""
    count, (low, high) = len(matrix.texts), matrix.scale()
    scale = colors.LinearSegmentedColormap.from_list("similarity", [tuple(c / 255 for c in rgb) for rgb in _SCALE])
    ends = (low, high) if high > low else (low - 1, low + 1)  # as share_of has it
    shown = np.where(np.eye(count, dtype=bool), np.nan, matrix.values)
    axes.imshow(shown, cmap=scale.with_extremes(bad=_DIAGONAL[0]), vmin=ends[0], vmax=ends[1], aspect="auto")
    numbers = [str(i + 1) for i in range(count)]
    axes.set_xticks(range(count), numbers, fontsize=9, color=_DIAGONAL[1])
    axes.set_yticks(range(count), numbers, fontsize=9, color=_DIAGONAL[1])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for edge in range(1, count):
        axes.axhline(edge - 0.5, color="white", linewidth=1.5)
        axes.axvline(edge - 0.5, color="white", linewidth=1.5)
    for i, j in np.ndindex(count, count) if count <= _MAX_NUMBERS else ():
        ink = _DIAGONAL[1] if i == j else _INK[share_of(float(matrix.values[i, j]), low, high) > DARK]
        axes.text(j, i, f"{matrix.values[i, j] + 0:.2f}", ha="center", va="center", fontsize=8, color=ink)


_FORMATS: dict[str, Callable[[SimilarityMatrix, Path], None]] = {
    ".svg": _write_svg,
    ".html": _write_html,
    ".png": _write_png,
}
SUFFIXES = tuple(_FORMATS)
