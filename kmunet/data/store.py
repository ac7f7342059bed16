"""Packed data set: images.npy and masks.npy, memory-mapped, and manifest.json.

Rows are written one at a time, so memory stays constant; the folder appears whole or
not at all; the same input gives the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kmunet.data.atomic import new_folder, require_space
from kmunet.data.progress import parallel_map
from kmunet.data.record import BOTH, SPLITS, Record
from kmunet.data.resize import resize_image, resize_mask
from kmunet.data.rows import RowFile
from kmunet.errors import DataError

Pixels = NDArray[np.uint8]
VERSION = 1


class Readable(Protocol):
    """Anything that gives an image (H, W, 3) and a mask (H, W) in {0, 1}."""

    def read(self) -> tuple[Pixels, Pixels]: ...


@dataclass(frozen=True)
class PackedSet:
    """A prepared data set. Pickled by its folder: a worker maps the files anew."""

    folder: Path
    images: Pixels  # memmap (N, S, S, 3) RGB
    masks: Pixels  # memmap (N, S, S) in {0, 1}
    records: tuple[Record, ...]
    manifest: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 of all that the manifest says, which includes the pixels' hashes."""
        return str(self.manifest["fingerprint"])

    @property
    def size(self) -> int:
        """Side of the square, pixels."""
        return int(self.images.shape[1])

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of "train", "validation" or "test", ascending."""
        if split not in SPLITS:
            raise DataError(f"unknown split '{split}'; choose of {', '.join(SPLITS)}")
        rows = [row for row, item in enumerate(self.records) if _is_in(item, split)]
        return np.asarray(rows, np.int64)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_packed, (self.folder,)


def write_packed(
    folder: Path,
    examples: Sequence[Readable],
    records: Sequence[Record],
    size: int,
    about: Mapping[str, Any],
    extra: Mapping[str, bytes] | None = None,
) -> PackedSet:
    """Write examples at `size` with their split records; `about` joins the manifest.

    `about["warnings"]` is extended; `extra` are files to lie beside it. Raises
    DataError where the disk is too full.
    """
    needed = len(records) * (size * size * 4 + 1000) + 2**20
    require_space(folder, needed, "free some, or lower the size under 'sources'")
    with new_folder(folder) as partial:
        sums, lost = _write_rows(partial, examples, records, size)
        notes = list(about.get("warnings", ()))
        if lost:
            notes.append(f"lesions that vanish at {size}x{size} pixels: {lost}")
        manifest = {
            **about,
            **_statistics(records, sums, size),
            "warnings": notes,
            "version": VERSION,
            "size": size,
            "files": {name: _digest(partial / name) for name in _shapes(1, 1)},
            "records": [asdict(record) for record in records],
        }
        manifest["fingerprint"] = hashlib.sha256(_json(manifest)).hexdigest()
        (partial / "manifest.json").write_bytes(_json(manifest))
        for name, data in (extra or {}).items():
            (partial / name).write_bytes(data)
    return open_packed(folder)


def open_packed(folder: Path) -> PackedSet:
    """Map a prepared data set. Raises DataError where it is missing or damaged."""
    remedy = "run the prepare stage again"
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        records = tuple(Record(**record) for record in manifest["records"])
        shapes = _shapes(len(records), manifest["size"])
        arrays = {
            name: np.load(folder / name, mmap_mode="r", allow_pickle=False)
            for name in shapes
        }
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file; {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise DataError(f"{folder}: damaged ({error}); {remedy}") from None
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.uint8:
            raise DataError(
                f"{folder / name}: {array.dtype} {array.shape}, but manifest.json "
                f"says uint8 {shape}; {remedy}"
            )
    return PackedSet(
        folder.absolute(), arrays["images.npy"], arrays["masks.npy"], records, manifest
    )


def _is_in(record: Record, split: str) -> bool:
    return record.split == split or (record.split == BOTH and split != "train")


def _shapes(count: int, size: int) -> dict[str, tuple[int, ...]]:
    return {
        "images.npy": (count, size, size, 3),
        "masks.npy": (count, size, size),
    }


def _write_rows(
    folder: Path, examples: Sequence[Readable], records: Sequence[Record], size: int
) -> tuple[NDArray[np.int64], int]:
    """Write all rows; sums of values and squares of train, and lesions lost."""
    shapes = _shapes(len(records), size)
    sums = np.zeros((2, 3), np.int64)
    lost = 0
    with (
        RowFile(folder / "images.npy", shapes["images.npy"]) as images,
        RowFile(folder / "masks.npy", shapes["masks.npy"]) as masks,
    ):

        def write(row: int) -> tuple[NDArray[np.int64], bool]:
            image, mask = examples[row].read()
            small, small_mask = (
                resize_image(image, size, size),
                resize_mask(mask, size, size),
            )
            images.write(row, small)
            masks.write(row, small_mask)
            values = small.reshape(-1, 3).astype(np.int64)
            return np.stack([values.sum(0), (values**2).sum(0)]), bool(
                mask.any() and not small_mask.any()
            )

        rows = range(len(records))
        for row, (sum_, gone) in enumerate(parallel_map(write, rows, "packing")):
            if records[row].split == "train":
                sums += sum_
            lost += gone
    return sums, lost


def _statistics(
    records: Sequence[Record], sums: NDArray[np.int64], size: int
) -> dict[str, Any]:
    """Counts per split; mean and std per channel of train on the scale 0 to 1."""
    counts = {}
    for split in SPLITS:
        shares = [r.foreground for r in records if _is_in(r, split)]
        counts[split] = {
            "images": len(shares),
            "empty": sum(share == 0.0 for share in shares),
            "foreground": round(sum(shares) / max(1, len(shares)), 6),
        }
    pixels = max(1, counts["train"]["images"]) * size * size
    mean = sums[0] / pixels
    std = np.sqrt(np.maximum(sums[1] / pixels - mean**2, 0.0))
    return {
        "counts": counts,
        "mean": [round(float(value) / 255, 6) for value in mean],
        "std": [round(float(value) / 255, 6) for value in std],
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()
