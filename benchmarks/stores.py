"""Ways to keep images and masks on disk, behind one interface.

Each writes the examples 0 to n - 1 into a folder and gives back, by row, an image
(S, S, 3) and a mask (S, S), uint8, in memory of their own.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from kmunet.data.pack import SHARD_BYTES
from kmunet.data.shards import Shards, ShardWriter, shard_names

Pixels = NDArray[np.uint8]
Pair = tuple[Pixels, Pixels]
_ENCODED_AT_ONCE = 256
SHARD = 500  # pairs in a tar file
SHUFFLE = 1000  # pairs in WebDataset's buffer


class Examples(Protocol):
    """What is stored."""

    @property
    def size(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> Pair: ...


class Store:
    """A folder written by `write`; `reader` opens it in the process that reads."""

    name = ""
    lossy = False

    def write(self, folder: Path, examples: Examples) -> None:
        raise NotImplementedError

    def reader(self, folder: Path) -> Callable[[int], Pair]:
        raise NotImplementedError

    def stream(
        self, folder: Path, rows: Sequence[int], part: int, parts: int
    ) -> Iterator[tuple[int, Pair]]:
        """The pairs of `rows`, in that order. `part` of `parts`: whose share it is."""
        read = self.reader(folder)
        for row in rows:
            yield row, read(row)


class Packed(Store):
    """Ours: the shards of a prepared data set, memory-mapped."""

    name = "kmunet"

    def write(self, folder: Path, examples: Examples) -> None:
        count, size = len(examples), examples.size
        rows = max(1, SHARD_BYTES // (3 * size**2))
        shapes = {"images": (count, size, size, 3), "masks": (count, size, size)}
        with ExitStack() as stack:
            images, masks = (
                stack.enter_context(ShardWriter(folder, names, shape, rows))
                for kind, shape in shapes.items()
                for names in [shard_names(str(size), kind, count, rows)]
            )

            def write(row: int) -> None:
                image, mask = examples[row]
                images.write(row, image)
                masks.write(row, mask)

            _each(write, count)

    def reader(self, folder: Path) -> Callable[[int], Pair]:
        images, masks = (
            Shards([np.load(path, mmap_mode="r") for path in sorted(folder.glob(kind))])
            for kind in ("*/images-*.npy", "*/masks-*.npy")
        )
        return lambda row: (np.array(images[row]), np.array(masks[row]))


class Files(Store):
    """An image file and a PNG mask an example, decoded by OpenCV."""

    def __init__(self, ending: str) -> None:
        self.name = {".png": "PNG files", ".jpg": "JPEG files (lossy)"}[ending]
        self.ending, self.lossy = ending, ending == ".jpg"

    def write(self, folder: Path, examples: Examples) -> None:
        def write(row: int) -> None:
            image, mask = examples[row]
            (folder / f"{row:06d}{self.ending}").write_bytes(encode(image, self.ending))
            (folder / f"{row:06d}_mask.png").write_bytes(encode(mask))

        _each(write, len(examples))

    def reader(self, folder: Path) -> Callable[[int], Pair]:
        def read(row: int) -> Pair:
            image = np.fromfile(folder / f"{row:06d}{self.ending}", np.uint8)
            mask = np.fromfile(folder / f"{row:06d}_mask.png", np.uint8)
            return decode(image), decode_mask(mask)

        return read


class Lmdb(Store):
    """One database; values are pixels, or PNG."""

    def __init__(self, png: bool) -> None:
        self.name, self.png = ("LMDB, PNG" if png else "LMDB, raw"), png

    def write(self, folder: Path, examples: Examples) -> None:
        import lmdb

        count, size = len(examples), examples.size
        room = 2 * count * size * size * 4 + 2**24
        (folder / "size").write_text(str(size))
        with lmdb.open(str(folder / "db"), map_size=room) as database:

            def values(row: int) -> tuple[bytes, bytes]:
                image, mask = examples[row]
                return (
                    (encode(image), encode(mask))
                    if self.png
                    else (image.tobytes(), mask.tobytes())
                )

            for start in range(0, count, _ENCODED_AT_ONCE):
                rows = range(start, min(count, start + _ENCODED_AT_ONCE))
                with database.begin(write=True) as writing:
                    for row, pair in zip(rows, _map(values, rows), strict=True):
                        for kind, value in zip("im", pair, strict=True):
                            writing.put(f"{row:06d}{kind}".encode(), value)

    def reader(self, folder: Path) -> Callable[[int], Pair]:
        import lmdb

        options: dict[str, Any] = {"readonly": True, "lock": False}
        database = lmdb.open(str(folder / "db"), **options)
        side = int((folder / "size").read_text())

        def read(row: int) -> Pair:
            with database.begin(buffers=True) as reading:
                image, mask = (
                    np.frombuffer(_value(reading, f"{row:06d}{kind}"), np.uint8)
                    for kind in "im"
                )
                if self.png:
                    return decode(image), decode_mask(mask)
                shaped = image.reshape(side, side, 3), mask.reshape(side, side)
                return shaped[0].copy(), shaped[1].copy()

        return read


def _value(reading: Any, key: str) -> Any:
    return reading.get(key.encode())


class Zarr(Store):
    """Two arrays of version 3, a chunk an example, the default compressor."""

    name = "Zarr"

    def write(self, folder: Path, examples: Examples) -> None:
        import zarr

        count, size = len(examples), examples.size
        create: dict[str, Any] = {"store": str(folder / "set.zarr"), "dtype": "uint8"}
        shape, chunk = (count, size, size), (1, size, size)
        images = zarr.create_array(
            **create, name="images", shape=(*shape, 3), chunks=(*chunk, 3)
        )
        masks = zarr.create_array(**create, name="masks", shape=shape, chunks=chunk)

        def write(row: int) -> None:
            images[row], masks[row] = examples[row]

        _each(write, count)

    def reader(self, folder: Path) -> Callable[[int], Pair]:
        import zarr

        group: Any = zarr.open_group(str(folder / "set.zarr"), mode="r")
        images, masks = group["images"], group["masks"]
        return lambda row: (np.asarray(images[row]), np.asarray(masks[row]))


class Tar(Store):
    """WebDataset: tar files of PNG read in sequence, mixed in a buffer; no rows.

    Each reader has its own share of the tar files, as its workers do.
    """

    name = "WebDataset (sequential)"

    def write(self, folder: Path, examples: Examples) -> None:
        import webdataset

        def sample(row: int) -> dict[str, Any]:
            image, mask = examples[row]
            key = {"__key__": f"{row:06d}"}
            return key | {"image.png": encode(image), "mask.png": encode(mask)}

        for start in range(0, len(examples), SHARD):
            rows = range(start, min(len(examples), start + SHARD))
            with webdataset.TarWriter(str(folder / f"{start:06d}.tar")) as writer:
                for item in _map(sample, rows):
                    writer.write(item)

    def stream(
        self, folder: Path, rows: Sequence[int], part: int, parts: int
    ) -> Iterator[tuple[int, Pair]]:
        import webdataset

        urls = [str(path) for path in sorted(folder.glob("*.tar"))]
        mine = urls[part::parts] or urls[:1]
        samples = webdataset.WebDataset(mine, shardshuffle=len(mine), seed=0)
        for count, sample in enumerate(samples.shuffle(SHUFFLE)):
            if count >= len(rows):
                return
            image, mask = (
                np.frombuffer(sample[kind], np.uint8)
                for kind in ("image.png", "mask.png")
            )
            yield int(sample["__key__"]), (decode(image), decode_mask(mask))


def stores() -> list[Store]:
    """All, ours first."""
    lmdbs = [Lmdb(png=False), Lmdb(png=True)]
    return [Packed(), Files(".png"), Files(".jpg"), *lmdbs, Zarr(), Tar()]


def encode(pixels: Pixels, ending: str = ".png") -> bytes:
    """RGB or one channel to a file's bytes, OpenCV's defaults."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(ending, pixels)[1].tobytes()


def decode(data: Pixels) -> Pixels:
    """A file's bytes to RGB."""
    found = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def decode_mask(data: Pixels) -> Pixels:
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _map(function: Callable[[int], Any], rows: Sequence[int]) -> Iterator[Any]:
    """In threads, in order: encoding releases Python's lock, for all stores alike."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(function, rows)


def _each(function: Callable[[int], None], count: int) -> None:
    for _ in _map(function, range(count)):
        pass
