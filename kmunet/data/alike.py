"""Near-duplicates: pairs of images that show the same view, by their fine detail.

Ultrasound images or endoscopy frames of different patients share layers, shadows and
borders, so plain correlation confuses them; speckle, vessels and hairs they share only
if they are one view. Three steps: the nearest by thumbnail; detail (local contrast
taken out) aligned by the peak of its cross-correlation; agreement of small blocks.
Thresholds: docs/log.md says what they find on BUSI, CVC-ClinicDB and ISIC 2017.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kmunet.data.progress import show_progress
from kmunet.data.resize import resize_image

SIDE = 128  # pixels of a thumbnail
NEIGHBOURS = 16  # candidates an image; more are reached from one to the next
PEAK = 0.25  # of the cross-correlation at 64 pixels: below, no candidate
AGREEMENT = 0.25  # share of the blocks: enough by itself
CLEAR_PEAK, SOME_AGREEMENT = 0.4, 0.16  # enough together
_REACH = 12  # pixels that one may be shifted against the other, at 64 and at 128
_BLOCK, _ALIKE = 13, 0.3  # side of a block, correlation at which two blocks agree
_FAINT = 12.0  # added to the energy of a block: JPEG's grid in flat areas is no detail
_CHUNK = 1024

Field = NDArray[np.float32]
Thumbnails = NDArray[np.uint8]


@dataclass(frozen=True)
class Alike:
    """Rows a < b show one view; `shift` (down, right) of b to a, at SIDE pixels."""

    a: int
    b: int
    agreement: float
    shift: tuple[int, int]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB (H, W, 3) to grey (SIDE, SIDE)."""
    small = resize_image(image, SIDE, SIDE).astype(np.uint32)
    grey = small @ np.array([299, 587, 114], np.uint32)
    return ((grey + 500) // 1000).astype(np.uint8)


def find_alike(thumbnails: Thumbnails) -> list[Alike]:
    """All near-duplicates among uint8 (N, SIDE, SIDE), sorted."""
    if len(thumbnails) < 2:
        return []
    pairs = _candidates(thumbnails)
    peaks = _peaks(thumbnails, pairs)
    kept = [
        (pair, peak) for pair, peak in zip(pairs, peaks, strict=True) if peak > PEAK
    ]
    rows = sorted({row for pair, _ in kept for row in pair})
    fine = {row: _fine(thumbnails[row]) for row in rows}

    def compare(item: tuple[tuple[int, int], float]) -> Alike | None:
        (a, b), peak = item
        agreement, shift = _agreement(fine[a], fine[b])
        clear = peak > CLEAR_PEAK and agreement > SOME_AGREEMENT
        return Alike(a, b, agreement, shift) if clear or agreement > AGREEMENT else None

    # One thread: these are many short calls, which threads would only hold up.
    found = show_progress(map(compare, kept), len(kept), "comparing images")
    return [alike for alike in found if alike is not None]


def _candidates(thumbnails: Thumbnails) -> list[tuple[int, int]]:
    """Each image with its nearest by thumbnail, the mean of the set taken out."""
    count = len(thumbnails)
    flat = _unit(_shrink(thumbnails, 32).reshape(count, -1))
    flat = _unit(flat - flat.mean(axis=0))
    found: set[tuple[int, int]] = set()
    nearest = min(NEIGHBOURS + 1, count)
    for start in range(0, count, _CHUNK):
        close = flat[start : start + _CHUNK] @ flat.T
        places = np.argpartition(-close, nearest - 1, axis=1)[:, :nearest]
        for row, others in enumerate(places.tolist(), start=start):
            found |= {(min(row, n), max(row, n)) for n in others if n != row}
    return sorted(found)


def _peaks(thumbnails: Thumbnails, pairs: Sequence[tuple[int, int]]) -> Iterator[float]:
    """Highest correlation of the detail of each pair at 64 pixels, within reach."""
    detail = _unit(_detail(_shrink(thumbnails, 64), 2.0, 4.0, 4.0) * _taper(64))
    spectra = np.fft.rfft2(detail).astype(np.complex64)
    for start in range(0, len(pairs), _CHUNK):
        rows = np.asarray(pairs[start : start + _CHUNK])
        both = spectra[rows[:, 0]] * spectra[rows[:, 1]].conj()
        yield from _within_reach(both, 64).max(axis=(1, 2)).tolist()


def _agreement(a: Field, b: Field) -> tuple[float, tuple[int, int]]:
    """Share of the blocks that agree after b was shifted upon a, and the shift."""
    taper = _taper(SIDE)
    both = np.fft.rfft2(a * taper) * np.fft.rfft2(b * taper).conj()
    surface = _within_reach(both[None], SIDE)[0]
    down, right = np.unravel_index(int(surface.argmax()), surface.shape)
    shift = int(down) - _REACH, int(right) - _REACH
    one, two = _blocks(a), _blocks(np.roll(b, shift, axis=(0, 1)))
    scale = np.sqrt(((one**2).sum(axis=1) + _FAINT) * ((two**2).sum(axis=1) + _FAINT))
    alike = (one * two).sum(axis=1) / scale > _ALIKE
    return float(alike.mean()), shift


def _fine(small: NDArray[np.uint8]) -> Field:
    detail = _detail(small[None].astype(np.float32), 1.5, 9.0, 2.0)
    return np.asarray(detail[0])


def _detail(images: Field, sigma: float, around: float, floor: float) -> Field:
    """What a Gaussian takes away, over its local deviation plus `floor` grey levels."""
    from scipy.ndimage import gaussian_filter

    rest = images - gaussian_filter(images, (0, sigma, sigma), mode="mirror")
    power = gaussian_filter(rest**2, (0, around, around), mode="mirror")
    return np.asarray(rest / (np.sqrt(power) + floor), np.float32)


def _within_reach(spectra: NDArray[np.complexfloating], side: int) -> Field:
    surface = np.fft.irfft2(spectra, s=(side, side))
    moved = np.roll(surface, (_REACH, _REACH), axis=(1, 2))
    return np.asarray(moved[:, : 2 * _REACH + 1, : 2 * _REACH + 1], np.float32)


def _blocks(field: Field) -> Field:
    """Inner blocks as rows without their mean."""
    count = (SIDE - 2 * _REACH) // _BLOCK
    inner = field[_REACH : _REACH + count * _BLOCK, _REACH : _REACH + count * _BLOCK]
    cut = inner.reshape(count, _BLOCK, count, _BLOCK).transpose(0, 2, 1, 3)
    rows = cut.reshape(count * count, _BLOCK * _BLOCK)
    return np.asarray(rows - rows.mean(axis=1, keepdims=True), np.float32)


def _shrink(thumbnails: Thumbnails, side: int) -> Field:
    step = SIDE // side
    blocks = thumbnails.reshape(len(thumbnails), side, step, side, step)
    return np.asarray(blocks.mean(axis=(2, 4), dtype=np.float32))


def _taper(side: int) -> Field:
    edge = np.hanning(side + 2)[1:-1].astype(np.float32)
    return np.asarray(np.outer(edge, edge), np.float32)


def _unit(fields: Field) -> Field:
    """Mean 0 and length 1, each; flat ones stay 0."""
    flat = fields.reshape(len(fields), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(length, 1e-6)).reshape(fields.shape)
