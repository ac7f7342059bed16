"""Images and masks at their native size, encoded without loss, one after another.

`native/pairs-00000.bin` holds the bytes of image, mask, image, mask, ...: the image as
its own file where that is a JPEG or a plain PNG, else as PNG; the mask as PNG. Where
each lies stands in the index.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from kmunet.data.decode import decode_image, decode_values

Pixels = NDArray[np.uint8]
PLACE = [("file", "<u4"), ("start", "<u8"), ("image", "<u4"), ("mask", "<u4")]
FOLDER = "native"
_KEPT = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def encode_image(image: Pixels, data: bytes) -> bytes:
    """Bytes that `decode_image` reads as `image`, uint8 RGB (H, W, 3).

    `data`: its file, from which it was decoded. It is kept if it is a JPEG or PNG no
    larger than the pixels (16-bit or padded files are), which is exact by itself.
    """
    if data.startswith(_KEPT) and len(data) <= image.size:
        return data
    red, green, blue = cv2.split(image)
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return _png(red)
    return _png(cv2.merge([blue, green, red]))


def encode_mask(mask: Pixels) -> bytes:
    """Classes uint8 (H, W) as PNG."""
    return _png(mask)


class NativeWriter:
    """Appends pairs; begins another file when one holds `most` bytes."""

    def __init__(self, root: Path, most: int) -> None:
        self._folder, self._most = root / FOLDER, most
        self._folder.mkdir()
        self.names: list[str] = []
        self._file: BinaryIO | None = None

    def append(self, image: bytes, mask: bytes) -> tuple[int, int, int, int]:
        """Write one pair; where it lies, as PLACE."""
        if self._file is None or self._file.tell() >= self._most:
            self._begin()
        assert self._file is not None
        start = self._file.tell()
        self._file.write(image)
        self._file.write(mask)
        return len(self.names) - 1, start, len(image), len(mask)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> "NativeWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self) -> None:
        self.close()
        name = f"pairs-{len(self.names):05d}.bin"
        self.names.append(f"{FOLDER}/{name}")
        self._file = (self._folder / name).open("wb")


def read_image(files: Sequence[Pixels], place: np.void, name: str) -> Pixels:
    """Image uint8 (H, W, 3) from mapped files. UnreadableError names it."""
    start, size = int(place["start"]), int(place["image"])
    return decode_image(files[place["file"]][start : start + size].tobytes(), name)


def read_mask(files: Sequence[Pixels], place: np.void, name: str) -> Pixels:
    """Mask uint8 (H, W)."""
    start, size = int(place["start"]) + int(place["image"]), int(place["mask"])
    data = files[place["file"]][start : start + size].tobytes()
    return np.asarray(decode_values(data, name, "index"), np.uint8)


def _png(pixels: Pixels) -> bytes:
    done, data = cv2.imencode(".png", pixels)
    assert done
    return bytes(data)
