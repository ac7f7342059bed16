"""The files of a prepared data set while they are written.

Each pair is read and decoded once, in threads; its rows go to their files as they come.
Memory holds the index (about 160 bytes an image) and a few pairs.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.data.alike import SIDE, thumbnail
from kmunet.data.index import Records, index_type, open_names, write_names
from kmunet.data.integrity import describe, summary
from kmunet.data.layers import LayerCount, Layers
from kmunet.data.native import NativeWriter, encode_image, encode_mask
from kmunet.data.pairs import Decoded, Pair, Source
from kmunet.data.progress import parallel_map
from kmunet.data.record import SPLITS
from kmunet.data.resize import resize_image, resize_mask
from kmunet.data.rows import ScratchRows
from kmunet.data.shards import Pixels, ShardWriter, shard_names
from kmunet.errors import DataError, PairError


@dataclass(frozen=True)
class _Written:
    """What is left to do, in order, when the rows of a pair are written."""

    lost: NDArray[np.bool_]  # at each size: had a lesion, has none
    native: tuple[bytes, bytes] | None  # image and mask
    layers: Layers


class Packer:
    """Writes the pairs of one source into `folder`; `stack` closes its files."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        sizes: Sequence[int],
        native: bool,
        shard_bytes: int,
        stack: ExitStack,
    ) -> None:
        self.source, self.sizes = source, tuple(sizes)
        self.count = len(source.matched)
        self.faulty = bool(source.problems)
        self.lost = np.zeros(len(sizes), np.int64)
        self.layers = LayerCount(source.classes)
        self._open_index(folder, native)
        self.rows = {size: max(1, shard_bytes // (3 * size**2)) for size in sizes}
        self.shards = {
            size: [stack.enter_context(w) for w in self._writers(folder, size)]
            for size in sizes
        }
        self.native = (
            stack.enter_context(NativeWriter(folder, shard_bytes)) if native else None
        )
        shape = (self.count, SIDE, SIDE)
        self.thumbnails = stack.enter_context(ScratchRows(folder, shape, np.uint8))

    def write_all(self) -> None:
        """Write every pair. Raises one DataError for all that cannot be used."""
        faults: list[DataError] = [PairError(text) for text in self.source.problems]
        rows = range(self.count)
        for row, done in enumerate(parallel_map(self._write, rows, "packing")):
            if isinstance(done, DataError):
                faults.append(done)
            elif done is not None:
                self.lost += done.lost
                self.layers.add(self.source.matched[row].id, done.layers)
                if self.native and done.native:
                    self.index[row]["native"] = self.native.append(*done.native)
        faults += self.layers.faults() if not faults else []
        if faults:
            raise summary(self.source, faults)

    def layout(self) -> dict[str, Any]:
        """What a reader must know of the files."""
        return {
            "count": self.count,
            "sizes": list(self.sizes),
            "shard_rows": {str(size): rows for size, rows in self.rows.items()},
            "categories": self.categories,
            "native": self.native is not None,
            "native_files": self.native.names if self.native else [],
        }

    def vanished(self) -> list[str]:
        """A line for each size at which lesions were lost."""
        found = zip(self.sizes, self.lost.tolist(), strict=True)
        return [f"lesions that vanish at {s}x{s} pixels: {n}" for s, n in found if n]

    def _open_index(self, folder: Path, native: bool) -> None:
        pairs = self.source.matched
        self.index = np.zeros(self.count, index_type(len(self.sizes), native))
        self.categories = sorted({p.category for p in pairs if p.category is not None})
        groups = dict.fromkeys(p.group for p in pairs if p.group is not None)
        self.groups = {name: number for number, name in enumerate(groups)}
        write_names(folder, "ids", (pair.id for pair in pairs))
        write_names(folder, "groups", groups)
        names = open_names(folder, "ids"), open_names(folder, "groups")
        self.records = Records(self.index, *names, self.categories)

    def _writers(self, folder: Path, size: int) -> Iterator[ShardWriter]:
        square, rows = (self.count, size, size), self.rows[size]
        for kind, shape in (("images", (*square, 3)), ("masks", square)):
            names = shard_names(str(size), kind, self.count, rows)
            yield ShardWriter(folder, names, shape, rows)

    def _write(self, row: int) -> _Written | DataError | None:
        """One pair to its rows; its fault is returned, to go on with the others.

        After a fault nothing will be kept: then pairs are decoded and no more.
        """
        pair = self.source.matched[row]
        try:
            data = pair.files.read(pair.image)
            read = pair.decode(data)
        except DataError as error:
            self.faulty = True
            return error
        if self.faulty:
            return None
        self._describe(row, pair, read)
        image, mask = read.image, read.mask
        self.thumbnails[row] = thumbnail(image)
        places = enumerate(self.sizes)
        lost = [self._resize(row, place, size, image, mask) for place, size in places]
        native = (encode_image(image, data), encode_mask(mask)) if self.native else None
        return _Written(np.asarray(lost), native, read.layers)

    def _resize(
        self, row: int, place: int, size: int, image: Pixels, mask: Pixels
    ) -> bool:
        """Write one size; whether a lesion was lost."""
        small, small_mask = (
            resize_image(image, size, size),
            resize_mask(mask, size, size),
        )
        images, masks = self.shards[size]
        images.write(row, small)
        masks.write(row, small_mask)
        levels = np.arange(256)
        for channel in range(3):
            counts = np.bincount(small[..., channel].ravel(), minlength=256)
            self.index[row]["sums"][place, channel] = counts @ levels
            self.index[row]["squares"][place, channel] = counts @ levels**2
        return bool(mask.any() and not small_mask.any())

    def _describe(self, row: int, pair: Pair, read: Decoded) -> None:
        known, record = self.index[row], describe(pair, read)
        for name in ("height", "width", "foreground", "grey_edges", "peak"):
            known[name] = getattr(record, name)
        for name in ("image_sha256", "sha256"):
            known[name] = np.frombuffer(bytes.fromhex(getattr(record, name)), np.uint8)
        known["split"] = SPLITS.index(pair.split) if pair.split else -1
        known["group"] = -1 if pair.group is None else self.groups[pair.group]
        category = pair.category
        known["category"] = -1 if category is None else self.categories.index(category)
