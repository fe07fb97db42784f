"""Pictures that are computed: parity is measured on them, and int8 calibrated, because no photograph can be shipped.

None is square, and they differ in what an encoder sees: spectra like photographs' (1/f, Field, 1987,
doi:10.1364/JOSAA.4.002379), gradients, noise, stripes, lines like writing, and shapes on a ground.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_Random = np.random.Generator

_SIZES = ((240, 320), (320, 240), (97, 211), (256, 171), (300, 225), (64, 48))  # height, width


def generated_pictures(count: int, seed: int) -> list[Pixels]:
    """`count` different pictures (H, W, 3), the same ones for the same seed and numpy."""
    makers = (_spectrum, _shapes, _writing, _gradient, _stripes, _noise)
    out = []
    for number in range(count):
        random = np.random.default_rng([seed, number])
        height, width = _SIZES[(number // len(makers)) % len(_SIZES)]
        out.append(makers[number % len(makers)](random, height, width))
    return out


def _as_pixels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _spectrum(random: _Random, height: int, width: int) -> Pixels:
    """Amplitudes that fall with the frequency, random phases; channels that mostly go together."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    slope = random.uniform(0.8, 1.4)
    planes = [np.fft.irfft2(np.fft.rfft2(random.standard_normal((height, width))) / frequency**slope, (height, width))
              for _ in range(3)]  # fmt: skip
    grey, red, blue = (plane / plane.std() for plane in planes)
    mean, contrast = random.uniform(70, 180), random.uniform(25, 60)
    channels = np.stack([grey + 0.3 * red, grey, grey + 0.3 * blue], axis=-1)
    return _as_pixels(mean + contrast * channels + random.uniform(-30, 30, 3))


def _shapes(random: _Random, height: int, width: int) -> Pixels:
    """Discs and boxes of one colour each."""
    y, x = np.mgrid[:height, :width]
    out = np.broadcast_to(random.uniform(0, 255, 3), (height, width, 3)).copy()
    for _ in range(int(random.integers(2, 9))):
        top, left = random.uniform(0, height), random.uniform(0, width)
        size = random.uniform(0.08, 0.35) * min(height, width)
        inside: Callable[..., NDArray[np.bool_]] = (
            (lambda a, b, s: a**2 + b**2 < s**2)
            if random.random() < 0.5
            else (lambda a, b, s: (abs(a) < s) & (abs(b) < s))
        )
        out[inside(y - top, x - left, size)] = random.uniform(0, 255, 3)
    return _as_pixels(out)


def _writing(random: _Random, height: int, width: int) -> Pixels:
    """Rows of strokes on paper, with gaps between words."""
    paper, ink = random.uniform(200, 255, 3), random.uniform(0, 90, 3)
    out = np.broadcast_to(paper, (height, width, 3)).copy()
    line = int(random.integers(8, 20))
    for top in range(line, height - line, 2 * line):
        left = line
        while left < width - line:
            stroke = int(random.integers(1, 4))
            low = top + int(random.integers(0, line // 2))
            out[low : low + int(random.integers(2, line)), left : left + stroke] = ink
            left += stroke + int(random.integers(1, 5)) + (line if random.random() < 0.15 else 0)
    return _as_pixels(out)


def _gradient(random: _Random, height: int, width: int) -> Pixels:
    """From one colour to another in some direction."""
    y, x = np.mgrid[:height, :width]
    angle = random.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x / width + np.sin(angle) * y / height
    along = (along - along.min()) / (along.max() - along.min())
    first, last = random.uniform(0, 255, 3), random.uniform(0, 255, 3)
    return _as_pixels(first + along[..., None] * (last - first))


def _stripes(random: _Random, height: int, width: int) -> Pixels:
    """A sine of some direction and wavelength, which resizing must not alias."""
    y, x = np.mgrid[:height, :width]
    angle, length = random.uniform(0, np.pi), random.uniform(3, 60)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (np.cos(angle) * x + np.sin(angle) * y) / length)
    first, last = random.uniform(0, 255, 3), random.uniform(0, 255, 3)
    return _as_pixels(first + wave[..., None] * (last - first))


def _noise(random: _Random, height: int, width: int) -> Pixels:
    """Blocks of every value, from single pixels to large ones."""
    block = int(random.integers(1, 24))
    rows, columns = -(-height // block), -(-width // block)
    values = random.integers(0, 256, (rows, columns, 3))
    return _as_pixels(values.repeat(block, axis=0).repeat(block, axis=1)[:height, :width].astype(np.float64))
