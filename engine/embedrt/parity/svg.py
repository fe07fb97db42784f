"""The two plots of the parity page, drawn as SVG text. Colors come from the page's style sheet, by class."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from embedrt.parity.report import ParityReport, VariantReport

# Small in user units, so that labels stay readable where a phone scales the plot down.
_WIDTH, _HEIGHT = 500, 372
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 44, 50
_FLOOR = 1e-16  # distances below it are rounding of float64; they are drawn at it
_MAX_POINTS = 1500  # per variant; of more texts, as many evenly spaced over the distances
_TOKEN_TICKS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_MAX_TICKS = 9
_LETTER = 6.5  # width of one in the legend, so that five variants and their limit stand side by side


@dataclass(frozen=True)
class _Axis:
    """Maps values to user units, by their logarithm where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = True

    def __call__(self, value: float) -> float:
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        share = math.log(value / low) / math.log(high / low) if self.log else (value - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def ecdf_plot(report: ParityReport, inputs: str = "texts") -> str:
    """Share of the inputs whose 1 - cosine is at most x, one curve per variant, with the variants' limits."""
    low, high = _distance_range(report)
    x = _Axis(low, high, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(0, 100, _HEIGHT - _BOTTOM, _TOP, log=False)
    parts = [
        *_x_grid(x, [(10.0**e, _power(e)) for e in _exponents(low, high)]),
        *_y_grid(y, [(share, f"{share}") for share in (0, 25, 50, 75, 100)]),
        *_titles("1 − cosine to the reference (log scale; left is better)", f"{inputs} (%)"),
        *_legend(report),
    ]
    for variant in report.variants:
        limit = _cosine_limit(variant)
        if limit is not None:
            parts.append(_line(variant, x(limit), _TOP, x(limit), _HEIGHT - _BOTTOM))
        parts.append(f'<path class="curve {_class(variant)}" d="{_steps(variant.distances, x, y)}"/>')
    return _svg(f"Share of {inputs} within a distance of the reference", parts)


def scatter_plot(report: ParityReport) -> str:
    """1 - cosine of each text against its tokens, one kind of marker per variant, with the variants' limits."""
    low, high = _distance_range(report)
    longest = max(report.num_tokens, default=1)
    x = _Axis(0.8, max(longest, report.max_tokens) * 1.25, _LEFT, _WIDTH - _RIGHT)
    y = _Axis(low, high, _HEIGHT - _BOTTOM, _TOP)
    cut = x(report.max_tokens)
    parts = [
        *_x_grid(x, [(tick, str(tick)) for tick in _token_ticks(x.high)]),
        *_y_grid(y, [(10.0**e, _power(e)) for e in _exponents(low, high)]),
        *_titles("tokens of the text, before cutting (log scale)", "1 − cosine to the reference (log)"),
        *_legend(report),
        f'<line class="cut" x1="{cut}" y1="{_TOP}" x2="{cut}" y2="{_HEIGHT - _BOTTOM}"/>',
    ]
    for variant in report.variants:
        limit = _cosine_limit(variant)
        if limit is not None:
            parts.append(_line(variant, _LEFT, y(limit), _WIDTH - _RIGHT, y(limit)))
        parts += _points(variant, report.num_tokens, x, y)
    # last, on a halo, because a limit may run through it
    label = f"cut at {report.max_tokens}"
    parts.append(f'<text class="note" x="{cut - 5}" y="{_HEIGHT - _BOTTOM - 5}" text-anchor="end">{label}</text>')
    return _svg("Distance to the reference by length of the text", parts)


def _svg(title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'<text class="title" x="{_LEFT}" y="16">{escape(title)}</text>{"".join(parts)}</svg>'
    )


def _class(variant: VariantReport) -> str:
    return f"v-{escape(variant.title.replace(', ', '-'))}"


def _distance_range(report: ParityReport) -> tuple[float, float]:
    """Whole powers of ten around all distances and limits."""
    values = [max(d, _FLOOR) for variant in report.variants for d in variant.distances]
    values += [limit for variant in report.variants if (limit := _cosine_limit(variant)) is not None]
    low = math.floor(math.log10(min(values, default=1e-8)))
    high = math.ceil(math.log10(max(values, default=1)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _cosine_limit(variant: VariantReport) -> float | None:
    """1 - the smallest cosine that the variant's gates allow."""
    for gate in variant.gates.gates:
        if gate.metric == "cosine_min":
            return 1 - gate.limit
    return None


def _exponents(low: float, high: float) -> range:
    first, last = round(math.log10(low)), round(math.log10(high))
    return range(first, last + 1, max(1, math.ceil((last - first) / _MAX_TICKS)))


def _token_ticks(high: float) -> list[int]:
    ticks = [tick for tick in _TOKEN_TICKS if tick <= high]
    return ticks if len(ticks) <= _MAX_TICKS else ticks[::2]


def _power(exponent: int) -> str:
    return f'10<tspan dy="-5" font-size="9">{str(exponent).replace("-", "−")}</tspan>'


def _x_grid(axis: _Axis, ticks: Sequence[tuple[float, str]]) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    return [
        f'<line class="grid" x1="{axis(value)}" y1="{_TOP}" x2="{axis(value)}" y2="{bottom}"/>'
        f'<text x="{axis(value)}" y="{bottom + 17}" text-anchor="middle">{label}</text>'
        for value, label in ticks
    ]


def _y_grid(axis: _Axis, ticks: Sequence[tuple[float, str]]) -> list[str]:
    return [
        f'<line class="grid" x1="{_LEFT}" y1="{axis(value)}" x2="{_WIDTH - _RIGHT}" y2="{axis(value)}"/>'
        f'<text x="{_LEFT - 7}" y="{axis(value) + 4}" text-anchor="end">{label}</text>'
        for value, label in ticks
    ]


def _titles(x_title: str, y_title: str) -> list[str]:
    across, middle = (_LEFT + _WIDTH - _RIGHT) / 2, (_TOP + _HEIGHT - _BOTTOM) / 2
    return [
        f'<text class="axis" x="{across}" y="{_HEIGHT - 10}" text-anchor="middle">{x_title}</text>',
        f'<text class="axis" transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{y_title}</text>',
    ]


def _legend(report: ParityReport) -> list[str]:
    parts = []
    x = _LEFT
    for variant in report.variants:
        parts.append(f'<path class="curve {_class(variant)}" d="M{x} 31h20"/>')
        parts.append(_marker(variant, x + 10, 31, ""))
        parts.append(f'<text x="{x + 25}" y="35">{escape(variant.title)}</text>')
        x += round(34 + _LETTER * len(variant.title))
    parts.append(f'<path class="limit" d="M{x} 31h20"/><text x="{x + 25}" y="35">limit</text>')
    return parts


def _line(variant: VariantReport, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="limit {_class(variant)}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _steps(distances: Sequence[float], x: _Axis, y: _Axis) -> str:
    """A step curve from 0 to 100 % through the sorted distances, drawn through to the right edge."""
    ordered = sorted(distances)
    keep = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), _MAX_POINTS)).astype(int))
    path = [f"M{x(ordered[0])} {y(0)}"]
    path += [f"H{x(ordered[i])}V{y(100 * (i + 1) / len(ordered))}" for i in keep.tolist()]
    return "".join(path) + f"H{x(x.high)}"


def _points(variant: VariantReport, num_tokens: Sequence[int], x: _Axis, y: _Axis) -> list[str]:
    order = np.argsort(variant.distances)
    keep = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), _MAX_POINTS)).astype(int))]
    points = []
    for i in keep.tolist():
        tip = f"{variant.title}, text {i}: {num_tokens[i]} tokens, 1 − cosine {variant.distances[i]:.1e}"
        points.append(_marker(variant, x(num_tokens[i]), y(variant.distances[i]), tip))
    return points


def _marker(variant: VariantReport, x: float, y: float, tip: str) -> str:
    """Circle, square, triangle or diamond, so that variants differ by more than color."""
    shape = _MARKERS.get(variant.title, _MARKERS["fp32"])
    title = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<path class="dot {_class(variant)}" transform="translate({x} {y})" d="{shape}">{title}</path>'


_MARKERS = {
    "fp32": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0z",
    "fp16": "M-2.7 -2.7h5.4v5.4h-5.4z",
    "int8": "M0 -3.6L3.4 2.6H-3.4z",
    "int8, native": "M0 3.6L3.4 -2.6H-3.4z",
    "bf16": "M0 -3.6L3.6 0L0 3.6L-3.6 0z",
}
