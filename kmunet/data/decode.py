"""Image and mask bytes to arrays: every mode, bit depth and value set to one form.

Images become uint8 RGB; what mask values mean is said in masks.py. Pillow reads; a
TIFF that Pillow refuses is read by tifffile (never by OpenCV, which loses the colours
of CVC-ClinicDB).
"""

import io
import logging
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kmunet.data.tiff import (
    PHOTOMETRIC,
    WHITE_IS_ZERO,
    black_as_zero,
    check_tags,
    read_tiff,
)
from kmunet.errors import UnreadableError

Pixels = NDArray[np.uint8]
for _reader in ("PIL", "tifffile"):  # their complaints are in our errors
    logging.getLogger(_reader).addHandler(logging.NullHandler())
_PNG = b"\x89PNG\r\n\x1a\n"


class _RefusedError(ValueError):
    """Read well, but not to be used: no other reader is to be tried."""


def decode_image(data: bytes, name: str) -> Pixels:
    """Image of any mode as uint8 RGB (H, W, 3).

    Grey is replicated, alpha dropped, 16 bits scaled (65535 to 255), EXIF orientation
    applied. Raises UnreadableError naming the file.
    """
    pixels = _to_bytes(_decode(data, name, palette="colour"), name)
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def decode_values(data: bytes, name: str, palette: str) -> NDArray[Any]:
    """Values as stored, (H, W) or (H, W, C); `palette` "index", "mask" or "colour".

    With "index" a colour palette gives its indices, a grey one its grey values; with
    "mask" too, but black is 0 wherever the palette has it. What alpha makes
    transparent is 0.
    Raises UnreadableError naming the file.
    """
    return _decode(data, name, palette, is_mask=True)


def _decode(
    data: bytes, name: str, palette: str, is_mask: bool = False
) -> NDArray[Any]:
    try:
        if data.startswith(_PNG):
            _require_checksums(data)
        pixels = _with_pillow(data, palette, is_mask)
    except _RefusedError as error:
        raise UnreadableError(_unreadable(name, error)) from None
    except Exception as error:  # damaged files make Pillow raise nearly anything
        if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            reason = "" if isinstance(error, UnidentifiedImageError) else error
            raise UnreadableError(_unreadable(name, reason)) from None
        try:
            pixels = read_tiff(data)
        except Exception as other:
            raise UnreadableError(_unreadable(name, other)) from None
    if pixels.size == 0 or pixels.ndim not in (2, 3):
        raise UnreadableError(_unreadable(name, f"array of shape {pixels.shape}"))
    return pixels


def _require_checksums(data: bytes) -> None:
    """Pillow leaves the checksum of a PNG's pixels aside: damage would pass unseen."""
    place, kind = len(_PNG), b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise ValueError("cut short")
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        end = place + 8 + length
        if data[end : end + 4] != zlib.crc32(data[place + 4 : end]).to_bytes(4, "big"):
            raise ValueError("a wrong checksum")
        place = end + 4


def _with_pillow(data: bytes, palette: str, is_mask: bool) -> NDArray[Any]:
    with Image.open(io.BytesIO(data)) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise _RefusedError("several pages or frames in one file")
        tags = getattr(image, "tag_v2", {})  # of a TIFF
        check_tags(tags)
        image.load()
        # Pillow does this itself for up to 8 bits.
        white_first = (
            image.mode[:4] == "I;16" and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
        )
        upright = ImageOps.exif_transpose(image)
        clear = _transparent(upright) if is_mask else None
        pixels = np.asarray(_plain(upright, palette, clear))
        if white_first:
            pixels = black_as_zero(pixels, 16)
        if clear is not None:
            pixels = pixels.copy()
            pixels[clear] = 0
        return pixels


def _transparent(image: Image.Image) -> NDArray[np.bool_] | None:
    """Where a mask is transparent, (H, W), if its alpha says anything."""
    if image.mode in ("P", "1", "L", "RGB") and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa"):
        return None
    *colours, alpha = (np.asarray(band) for band in image.split())
    if not np.ptp(alpha):
        return None
    flat = not any(np.ptp(colour) for colour in colours)
    hidden = not any(colour[alpha > 0].any() for colour in colours)
    if flat or (hidden and any(colour.any() for colour in colours)):
        raise _RefusedError("a shape in its alpha channel alone: save it without alpha")
    clear: NDArray[np.bool_] = alpha == 0
    return clear


def _plain(
    image: Image.Image, palette: str, clear: NDArray[np.bool_] | None
) -> Image.Image | NDArray[Any]:
    """A mode whose array is (H, W) or (H, W, 3 or more)."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        colour = image.convert("RGB")
        if palette == "colour" or _greys(image, colour, palette):
            return colour
        indices = np.array(image.getchannel(0))
        return _black_first(indices, colour, clear) if palette == "mask" else indices
    if image.mode in ("L", "I", "F", "RGB") or image.mode.startswith("I;16"):
        return image
    return image.convert("L" if image.mode in ("LA", "La") else "RGB")


def _greys(image: Image.Image, colour: Image.Image, palette: str) -> bool:
    """Whether its greys are the values: by the whole palette, which a set shares.

    A mask of black, white and greys between is that beside any colours not in use.
    """
    entries = np.reshape(image.getpalette() or [], (-1, 3))
    if (entries == entries[:, :1]).all():
        return True
    used = np.asarray(colour)
    return bool(
        palette == "mask" and used.max() == 255 and (used == used[..., :1]).all()
    )


def _black_first(
    indices: NDArray[Any], colour: Image.Image, clear: NDArray[np.bool_] | None
) -> NDArray[Any]:
    """The same with black as 0: an adapted palette may begin with any colour."""
    black = ~np.asarray(colour).any(axis=2)
    if clear is not None:
        black |= clear
    first = (indices == 0) & ~black
    if first.any():
        if not black.any():
            raise _RefusedError("no colour of its palette is black, for the background")
        indices[first] = indices[black][0]
    indices[black] = 0
    return indices


def _to_bytes(pixels: NDArray[Any], name: str) -> Pixels:
    """Unsigned 16 bits to 8 by dividing by 257; other types must fit 0..65535."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 65535:
        raise UnreadableError(
            f"{name}: pixels of type {pixels.dtype} beyond 16 bits; "
            "save it as an 8-bit or 16-bit image"
        )
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _unreadable(name: str, reason: object) -> str:
    detail = f" ({str(reason).splitlines()[0]})" if str(reason) else ""
    return f"{name}: cannot be read as an image{detail}; replace or remove it"
