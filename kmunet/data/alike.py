"""Near-duplicates: pairs of images that show the same view, by their fine detail.

Ultrasound images or endoscopy frames of different patients share layers, shadows and
borders, so plain correlation confuses them; speckle, vessels and hairs they share only
if they are one view. Three steps: the nearest by thumbnail; detail (local contrast
taken out) aligned by the peak of its cross-correlation; agreement of small blocks.
Thresholds: docs/log.md says what they find on BUSI, CVC-ClinicDB and ISIC 2017.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.nearest import chunks, nearest_rows
from kmunet.data.progress import parallel_map, show_progress
from kmunet.data.resize import resize_image
from kmunet.data.rows import ScratchRows

SIDE = 128  # pixels of a thumbnail
NEIGHBOURS = 16  # candidates an image; more are reached from one to the next
PEAK = 0.25  # of the cross-correlation at 64 pixels: below, no candidate
AGREEMENT = 0.25  # share of the blocks: enough by itself
CLEAR_PEAK, SOME_AGREEMENT = 0.4, 0.16  # enough together
SCRATCH_BYTES = 4 * 32 * 32 + 8 * 64 * 33  # an image, while they are compared
_REACH = 12  # pixels that one may be shifted against the other, at 64 and at 128
_BLOCK, _ALIKE = 13, 0.3  # side of a block, correlation at which two blocks agree
_FAINT = 12.0  # added to the energy of a block: JPEG's grid in flat areas is no detail
_FINE = 512  # images whose detail is kept: 64 KB each

Field = NDArray[np.float32]
Thumbnails = NDArray[np.uint8] | ScratchRows


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


def find_alike(thumbnails: Thumbnails, scratch: Path | None = None) -> list[Alike]:
    """All near-duplicates among uint8 (N, SIDE, SIDE), sorted.

    With `scratch`, a folder, what is worked out of each image lies in files there
    (SCRATCH_BYTES an image); memory then holds at most 400 bytes of numbers an image.
    """
    if len(thumbnails) < 2:
        return []
    with ExitStack() as stack:
        codes = _candidates(thumbnails, _table(stack, scratch, (len(thumbnails), 1024)))
        shape = len(thumbnails), 64, 33
        spectra = _table(stack, scratch, shape, np.complex64)
        peaks = _peaks(thumbnails, codes, spectra)
    likely = peaks > PEAK
    pairs = _rows(codes[likely], len(thumbnails)).tolist()
    fine = lru_cache(_FINE)(lambda row: _fine(thumbnails[row]))

    def compare(item: tuple[list[int], float]) -> Alike | None:
        (a, b), peak = item
        agreement, shift = _agreement(fine(a), fine(b))
        clear = peak > CLEAR_PEAK and agreement > SOME_AGREEMENT
        return Alike(a, b, agreement, shift) if clear or agreement > AGREEMENT else None

    kept = zip(pairs, peaks[likely].tolist(), strict=True)
    # One thread: these are many short calls, which threads would only hold up.
    found = show_progress(map(compare, kept), len(pairs), "comparing images")
    return [alike for alike in found if alike is not None]


def _table(
    stack: ExitStack, folder: Path | None, shape: tuple[int, ...], kind: Any = "f4"
) -> Any:
    """An array to be filled and read by rows: in memory, or in a file of `folder`."""
    if folder is None:
        return np.empty(shape, kind)
    return stack.enter_context(ScratchRows(folder, shape, kind))


def _candidates(thumbnails: Thumbnails, flat: Any) -> NDArray[np.int64]:
    """Each image with its nearest by thumbnail, the mean of the set taken out.

    Pairs of rows a < b as a * N + b, int64 (M,), sorted. `flat`: table (N, 1024).
    """
    count = len(thumbnails)
    total = np.zeros(1024)
    for rows in chunks(count):
        part = _unit(_shrink(thumbnails[rows], 32)).reshape(-1, 1024)
        flat[rows] = part
        total += part.sum(axis=0, dtype=np.float64)
    mean = (total / count).astype(np.float32)
    for rows in chunks(count):
        flat[rows] = _unit(flat[rows] - mean)
    nearest = nearest_rows(flat, min(NEIGHBOURS, count - 1))
    codes = nearest.astype(np.int64)
    for row, others in enumerate(codes):
        others[:] = np.minimum(row, others) * count + np.maximum(row, others)
    codes = codes.ravel()
    codes.sort()
    return np.asarray(codes[np.append(True, codes[1:] != codes[:-1])])


def _rows(codes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Rows (M, 2) of pairs."""
    return np.stack(np.divmod(codes, count), axis=1)


def _peaks(thumbnails: Thumbnails, codes: NDArray[np.int64], spectra: Any) -> Field:
    """Highest correlation of the detail of each pair at 64 pixels, within reach.

    `spectra`: table complex64 (N, 64, 33).
    """
    for rows in chunks(len(thumbnails)):
        detail = _detail(_shrink(thumbnails[rows], 64), 2.0, 4.0, 4.0) * _taper(64)
        spectra[rows] = np.fft.rfft2(_unit(detail)).astype(np.complex64)

    def correlate(part: slice) -> Field:
        pairs = _rows(codes[part], len(thumbnails))
        rows, place = np.unique(pairs, return_inverse=True)
        own, place = spectra[rows], place.reshape(-1, 2)
        both = own[place[:, 0]] * own[place[:, 1]].conj()
        return np.asarray(_within_reach(both, 64).max(axis=(1, 2)))

    found = parallel_map(correlate, chunks(len(codes)), "correlating")
    return np.concatenate(list(found))


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


def _shrink(thumbnails: NDArray[np.uint8], side: int) -> Field:
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
