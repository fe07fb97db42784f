"""A map of texts as a picture: .html to move about in, .svg with text kept as text, .png through matplotlib."""

from __future__ import annotations

import colorsys
import html
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from embedrt.commands.heatmap import FONTS
from embedrt.commands.labels import label, width
from embedrt.commands.map import OTHERS, Map
from embedrt.commands.tables import write_aside
from embedrt.errors import FileFormatError

_PAGE = Path(__file__).with_name("map_page")
# Told apart on white and on black, and by most who see fewer colours (Paul Tol, "bright" and "muted"), others follow.
_COLOURS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#44bb99", "#882255", "#999933",
    "#0077bb", "#cc3311",
)  # fmt: skip
_GREY = "#9aa0a8"
_SIDE, _MARGIN, _LEGEND_COLUMNS = 560, 20, 34  # px, px, columns of a name


def draw(drawn: Map, path: Path) -> None:
    """Write the picture in the format of the suffix.

    Raises:
        FileFormatError: it cannot be written; or no installed font has the names' characters (.png only).
        DependencyError: matplotlib is missing (.png only).
    """
    write_aside(path, lambda part: _FORMATS[path.suffix.lower()](drawn, part))


def colours(names: tuple[str, ...]) -> list[str]:
    """A colour for each group; grey for what is in none, or in one of many small ones."""
    chosen: list[str] = []
    for name in names:
        if name in (OTHERS, "in none", "(none)"):
            chosen.append(_GREY)
            continue
        place = len(chosen)
        if place < len(_COLOURS):
            chosen.append(_COLOURS[place])
        else:
            rgb = colorsys.hls_to_rgb(place * 0.381966 % 1, 0.5, 0.55)  # the golden angle
            chosen.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return chosen


def page(drawn: Map) -> str:
    """The map as one file of HTML that needs nothing else."""
    data = {**drawn.to_json(), "paint": colours(drawn.groups.names)}
    parts = {
        "title": html.escape(drawn.title),
        "fonts": FONTS,
        "style": (_PAGE / "map.css").read_text(encoding="utf-8"),
        "script": (_PAGE / "map.js").read_text(encoding="utf-8"),
        # "<" would end the element, whatever the texts hold.
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    text = (_PAGE / "map.html").read_text(encoding="utf-8")
    for name in ("title", "style", "fonts", "script", "data"):  # the texts last: they may hold what looks like a name
        text = text.replace("{{" + name + "}}", parts[name])
    return text


def svg(drawn: Map) -> str:
    """The map as SVG. It holds no font: whoever shows it uses its own."""
    paint, names = colours(drawn.groups.names), [label(name, _LEGEND_COLUMNS) for name in drawn.groups.names]
    counts = np.bincount(drawn.groups.of_rows, minlength=len(names))
    # Half of a full-width character, and a little over a Latin letter.
    legend = max((round(width(name) * 7.4) for name in names), default=0) + 90
    across, down = _SIDE + legend + 2 * _MARGIN, _SIDE + 2 * _MARGIN + 44
    middle = (_MARGIN + _SIDE / 2, 44 + _MARGIN + _SIDE / 2)
    radius = 2.2 if len(drawn.records) > 2000 else 3 if len(drawn.records) > 300 else 4.5
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across} {down}" width="{across}" height="{down}" '
        f'font-family="{FONTS}" font-size="13">',
        f'<rect width="{across}" height="{down}" fill="#fff"/>',
        f'<text x="{_MARGIN}" y="28" font-size="15" font-weight="600" fill="#222">{html.escape(drawn.title)}</text>',
        f'<text x="{_MARGIN}" y="46" font-size="11" fill="#555">{html.escape(note_of(drawn))}</text>',
    ]
    for group, colour in enumerate(paint):
        places = drawn.plane.points[drawn.groups.of_rows == group] * (_SIDE / 2)
        dots = "".join(f'<circle cx="{middle[0] + x:.1f}" cy="{middle[1] - y:.1f}" r="{radius}"/>' for x, y in places)
        parts.append(f'<g fill="{colour}" fill-opacity="0.75">{dots}</g>')
    for i, name in enumerate(names):
        x, y = _SIDE + 2 * _MARGIN, 44 + _MARGIN + 22 * i + 12
        parts.append(f'<circle cx="{x + 6}" cy="{y - 4}" r="5" fill="{paint[i]}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}" fill="#222">{html.escape(name)}</text>')
        parts.append(f'<text x="{across - _MARGIN}" y="{y}" text-anchor="end" fill="#8a919c">{counts[i]:,}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def note_of(drawn: Map) -> str:
    """What is seen, in words."""
    return f"{len(drawn.records):,} texts; {drawn.plane.told}; {drawn.groups.told}"


def _write_html(drawn: Map, path: Path) -> None:
    path.write_text(page(drawn), encoding="utf-8", errors="replace")


def _write_svg(drawn: Map, path: Path) -> None:
    path.write_text(svg(drawn), encoding="utf-8", errors="replace")


def _write_png(drawn: Map, path: Path) -> None:
    from embedrt.commands.fonts import families_for, import_matplotlib

    figure_class, _ = import_matplotlib()
    title, names = label(drawn.title, 60), [label(name, _LEGEND_COLUMNS) for name in drawn.groups.names]
    try:
        families = families_for("".join([title, *names]))
    except LookupError as exc:
        raise FileFormatError(
            f"the map was not drawn: {exc.args[0]}, or write .html or .svg, which use the browser's fonts"
        ) from exc
    figure = figure_class(figsize=(9, 6.4), dpi=150)
    axes = figure.add_axes((0.02, 0.02, 0.6, 0.86))
    for group, colour in enumerate(colours(drawn.groups.names)):
        places = drawn.plane.points[drawn.groups.of_rows == group]
        axes.scatter(places[:, 0], places[:, 1], s=6, color=colour, alpha=0.75, linewidths=0, label=names[group])
    axes.set_aspect("equal")
    axes.axis("off")
    figure.legend(
        loc="upper left", bbox_to_anchor=(0.63, 0.88), frameon=False, markerscale=2, prop={"family": families}
    )
    figure.text(0.03, 0.95, title, fontsize=11, weight="bold", family=families)
    figure.text(0.03, 0.91, note_of(drawn), fontsize=7, color="#555555", family=families)
    figure.savefig(path, format="png")


_FORMATS: dict[str, Callable[[Map, Path], None]] = {".svg": _write_svg, ".html": _write_html, ".png": _write_png}
