"""A synthetic lesion set, drawn from a seed: stands in where there is no data yet.

Looks somewhat like breast ultrasound: layers of tissue under slow shading, fully
developed speckle (multiplicative, Rayleigh; Goodman 1975), lesions mostly darker than
the tissue round them, and distractors that are no lesions: bright bands, dark shadows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kmunet.data.atomic import new_folder

Field = NDArray[np.float64]
_LESIONS = (0.12, 0.60, 0.20, 0.08)  # chance of 0, 1, 2, 3 lesions


def write_synthetic(folder: Path, images: int, size: int, seed: int) -> None:
    """Write images/NAME.png (grey) and masks/NAME.png (0 and 255), size x size.

    Image n depends on (seed, n) and `size` alone. Replaces `folder` as a whole.
    """
    with new_folder(folder) as partial:
        for kind in ("images", "masks"):
            (partial / kind).mkdir()
        for number in range(images):
            name = f"synthetic_{number:04d}.png"
            image, mask = draw(size, seed, number)
            Image.fromarray(image).save(partial / "images" / name)
            Image.fromarray(mask * np.uint8(255)).save(partial / "masks" / name)


def draw(
    size: int, seed: int, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image uint8 (size, size) grey and mask uint8 (size, size) in {0, 1}."""
    random = np.random.default_rng([seed, number])
    tissue = _tissue(random, size)
    mask = np.zeros((size, size), bool)
    for _ in range(random.choice(len(_LESIONS), p=_LESIONS)):
        tissue, inside = _add_lesion(random, tissue, mask)
        mask |= inside
    values = 255.0 * _speckle(random, tissue)
    # Rounded to 1e-6 first: the last bit of a library's log must not move a grey level.
    grey = np.floor(np.round(np.clip(values, 0.0, 255.0), 6) + 0.5)
    return np.minimum(grey, 255.0).astype(np.uint8), mask.astype(np.uint8)


def _tissue(random: np.random.Generator, size: int) -> Field:
    """Echo strength in about 0..1: layers, shading, bright bands, dark shadows."""
    down = np.linspace(0.0, 1.0, size)[:, None]
    base = random.uniform(0.34, 0.5)
    tissue = base * (1.0 + 0.35 * _smooth(random, size, 4))
    bent = down + 0.06 * _smooth(random, size, 3)
    for _ in range(random.integers(2, 5)):
        centre, width = random.uniform(0.0, 1.0), random.uniform(0.012, 0.035)
        gain = random.uniform(0.25, 0.7) * np.clip(_smooth(random, size, 4) + 0.5, 0, 1)
        tissue = tissue * (1.0 + gain * np.exp(-(((bent - centre) / width) ** 2)))
    return _add_shadow(random, tissue) * (1.15 - random.uniform(0.1, 0.5) * down)


def _add_shadow(random: np.random.Generator, tissue: Field) -> Field:
    """A dark column below some depth, as behind a calcification: not a lesion."""
    size = len(tissue)
    y, x = np.mgrid[0:size, 0:size] / size
    for _ in range(random.integers(0, 2)):
        centre, width = random.uniform(0.05, 0.95), random.uniform(0.03, 0.08)
        start, depth = random.uniform(0.3, 0.8), random.uniform(0.25, 0.5)
        column = np.exp(-(((x - centre) / width) ** 2)) / (
            1.0 + np.exp(-(y - start) / 0.03)
        )
        tissue = tissue * (1.0 - depth * column)
    return tissue


@dataclass(frozen=True)
class _Blob:
    """An ellipse whose radius wobbles with the angle."""

    x: float
    y: float
    radius: float
    aspect: float
    tilt: float
    waves: tuple[tuple[int, float, float], ...]  # order, height, phase

    def level(self, size: int) -> Field:
        """Distance over radius: below 1 inside (size, size)."""
        rows, columns = np.mgrid[0:size, 0:size] + 0.5
        right, below = columns / size - self.x, rows / size - self.y
        along = right * np.cos(self.tilt) + below * np.sin(self.tilt)
        across = below * np.cos(self.tilt) - right * np.sin(self.tilt)
        distance = np.hypot(along / self.aspect, across * self.aspect)
        angle = np.arctan2(across, along)
        edge = np.full_like(angle, self.radius)
        for order, height, phase in self.waves:
            edge = edge * (1.0 + height * np.cos(order * angle + phase))
        return np.asarray(np.round(distance / edge, 9))


def _blob(random: np.random.Generator) -> _Blob:
    rough = random.uniform(0.02, 0.14)
    waves = tuple(
        (
            order,
            rough * random.uniform(0.3, 1.0) * 2.0 / order,
            random.uniform(0, 6.283),
        )
        for order in (2, 3, 4, 5)
    )
    return _Blob(
        x=random.uniform(0.15, 0.85),
        y=random.uniform(0.15, 0.8),
        radius=0.075 * 3.4 ** random.uniform(0.0, 1.0),
        aspect=random.uniform(1.0, 1.35),
        tilt=random.uniform(-0.6, 0.6),
        waves=waves,
    )


def _add_lesion(
    random: np.random.Generator, tissue: Field, taken: NDArray[np.bool_]
) -> tuple[Field, NDArray[np.bool_]]:
    """Darken one blob that touches no other; contrast and softness of edge vary."""
    size = len(tissue)
    for _ in range(20):
        level = _blob(random).level(size)
        if not (taken & (level < 1.25)).any():
            break
    else:
        return tissue, np.zeros_like(taken)
    inner = random.uniform(0.2, 0.5)
    softness = random.uniform(0.03, 0.12)
    weight = 1.0 / (1.0 + np.exp(np.clip((level - 1.0) / softness, -40, 40)))
    flat = tissue.mean() * (1.0 + 0.25 * _smooth(random, size, 6))
    inside = inner * (0.5 * tissue + 0.5 * flat)
    return tissue * (1.0 - weight) + inside * weight, level < 1.0


def _speckle(random: np.random.Generator, tissue: Field) -> Field:
    """Rayleigh amplitude of mean 1, one pixel wide correlation, mildly compressed."""
    size = len(tissue)
    noise = np.sqrt(-np.log1p(-random.random((size, size)))) / np.sqrt(np.pi / 4)
    blurred = noise
    for axis in (0, 1):
        near = np.roll(blurred, 1, axis) + np.roll(blurred, -1, axis)
        blurred = 0.5 * blurred + 0.25 * near
    return np.asarray(np.maximum(tissue, 0.0) * (0.3 * noise + 0.7 * blurred)) ** 0.9


def _smooth(random: np.random.Generator, size: int, cells: int) -> Field:
    """A slow random field in about -1..1: cubic blends between a coarse grid."""
    grid = random.uniform(-1.0, 1.0, (cells + 1, cells + 1))
    place = np.arange(size) * cells / size
    cell = place.astype(int)
    part = place - cell
    blend = (3.0 - 2.0 * part) * part**2
    rows = grid[cell] * (1 - blend)[:, None] + grid[cell + 1] * blend[:, None]
    return np.asarray(rows[:, cell] * (1 - blend) + rows[:, cell + 1] * blend)
