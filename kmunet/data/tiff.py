"""TIFF files beyond what Pillow reads: by tifffile, in any layout of the channels."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS, PLANAR, BITS, PHOTOMETRIC = 277, 284, 258, 262  # tags
WHITE_IS_ZERO = 0
_ORIENT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {  # TIFF 6.0, tag 274
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, 1),
}


def read_tiff(data: bytes) -> NDArray[Any]:
    """Values as stored, (H, W) or (H, W, 3 or 4), upright. Raises nearly anything."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if len(file.pages) != 1:
            raise ValueError("several pages or frames in one file")
        page = file.pages.first
        _require_whole(page, len(data))
        require_few(page.samplesperpixel)
        pixels = np.asarray(page.asarray())
        tag, axes = page.tags.get(274), str(page.axes)
        if page.photometric == WHITE_IS_ZERO:
            pixels = black_as_zero(pixels, page.bitspersample)
    if set(axes) - set("YXS") or len(axes) != pixels.ndim:
        raise ValueError(f"axes {axes}")
    if "S" in axes:  # also where channels lie one after the other
        pixels = np.moveaxis(pixels, axes.index("S"), -1)
    if pixels.ndim == 3 and pixels.shape[2] < 3:
        pixels = pixels[:, :, 0]  # grey, with or without alpha
    turn = _ORIENT.get(int(tag.value) if tag else 1)
    return turn(pixels) if turn else pixels


def check_tags(tags: Mapping[int, Any]) -> None:
    """Raise ValueError where Pillow would read other pixels than the file has."""
    require_few(tags.get(CHANNELS, 1))
    if tags.get(PLANAR) == 2 and set(tags.get(BITS, (1,))) != {8}:
        raise ValueError("planes of 16 bits, which Pillow reads as noise")


def require_few(channels: int) -> None:
    """Raise ValueError for more channels than grey or RGB with alpha have."""
    if not 1 <= channels <= 4:
        raise ValueError(
            f"{channels} channels, but at most 4 are read: save one as grey, or three "
            "as RGB"
        )


def black_as_zero(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """The same of a file where white is 0. Only unsigned values have a white."""
    if pixels.dtype == np.bool_:
        return ~pixels
    if pixels.dtype.kind != "u":
        return pixels
    shown: NDArray[Any] = pixels.dtype.type(2**bits - 1) - pixels
    return shown


def _require_whole(page: Any, length: int) -> None:
    """tifffile fills strips that are missing with zeros: refuse these first."""
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    whole = len(places) == int(np.prod(page.chunked))
    inside = all(n > 0 and 0 < start <= length - n for start, n in places)
    stored = sum(n for _, n in places)
    enough = stored >= page.nbytes if page.compression == 1 else True
    if not (whole and inside and enough) or page.nbytes > 1100 * length:
        raise ValueError("strips missing or cut short")
