"""`python -m benchmarks.store DATA`: our store beside PNG files and peers' formats.

Random reads a second by one and by several processes, with the files in the page cache
and without, bytes on disk and time to write, on real images.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import machine, rounded
from benchmarks.plan import threads_here
from benchmarks.store_images import load
from benchmarks.store_readers import forget, read_rows
from benchmarks.stores import SHARD, SHUFFLE, Examples, Store, stores
from benchmarks.tables import print_table
from kmunet.errors import KMUNetError

_PEERS = ("lmdb", "numpy", "opencv-python-headless", "webdataset", "zarr")
_CHECKED = 200  # rows compared pixel by pixel
_COLD = 300  # rows read from the disk


def compare(
    examples: Examples,
    kinds: Sequence[Store],
    root: Path,
    *,
    processes: Sequence[int],
    reads: int,
    repeats: int,
) -> dict[str, dict[str, Any]]:
    """Write every store below `root`, check its pixels, and time it in turns."""
    found: dict[str, dict[str, Any]] = {}
    folders = {kind.name: root / str(i) for i, kind in enumerate(kinds)}
    for kind in kinds:
        found[kind.name] = write(kind, folders[kind.name], examples)
        found[kind.name]["pixels"] = check(kind, folders[kind.name], examples)
        print(f"{kind.name}: written and compared", file=sys.stderr)
    for number in processes:
        name = f"warm, {number} reader{'s' if number > 1 else ''}"
        turns = _turns(kinds, folders, len(examples), reads, number, repeats)
        for kind in kinds:
            found[kind.name][name] = _best(turns[kind.name])
    for kind in kinds:
        folder, rows = folders[kind.name], min(_COLD, reads)
        forget(folder)
        cold = read_rows(kind, folder, len(examples), rows, 1, seed=99)
        # Nothing came from a disk: the cache could not be emptied.
        found[kind.name]["cold, 1 reader"] = (
            cold if cold["fetched_bytes_per_image"] > 0 else None
        )
    return found


def _turns(
    kinds: Sequence[Store],
    folders: dict[str, Path],
    count: int,
    reads: int,
    processes: int,
    repeats: int,
) -> dict[str, list[dict[str, float]]]:
    """All stores once without being kept, which fills the cache, then `repeats`."""
    found: dict[str, list[dict[str, float]]] = {kind.name: [] for kind in kinds}
    for turn in range(repeats + 1):
        for kind in kinds:
            folder = folders[kind.name]
            if turn == 0:
                _touch(folder)
            result = read_rows(kind, folder, count, reads, processes, turn)
            found[kind.name] += [result] if turn else []
    return found


def _best(results: Sequence[dict[str, float]]) -> dict[str, float]:
    speeds = [r["images_per_second"] for r in results]
    return {
        "images_per_second": max(speeds),
        "images_per_second_median": median(speeds),
        "cpu_us_per_image": min(r["cpu_us_per_image"] for r in results),
    }


def _touch(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            path.read_bytes()


def write(kind: Store, folder: Path, examples: Examples) -> dict[str, Any]:
    """Seconds to write and flush, and what then lies on the disk."""
    folder.mkdir()
    wall, cpu = time.perf_counter(), time.process_time()
    kind.write(folder, examples)
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = {
        "write_seconds": time.perf_counter() - wall,
        "write_cpu_seconds": time.process_time() - cpu,
    }
    blocks = sum(path.stat().st_blocks * 512 for path in files)
    return found | {"bytes_on_disk": blocks, "files": len(files)}


def check(kind: Store, folder: Path, examples: Examples) -> str:
    """ "equal", or how far a lossy one is off. Raises RuntimeError where it should be
    equal and is not."""
    stride = max(1, len(examples) // _CHECKED)
    rows = list(range(0, len(examples), stride))
    differences, seen = [], set()
    wanted = len(examples) if kind.name.startswith("WebDataset") else len(rows)
    for row, (image, mask) in kind.stream(
        folder, [*rows, *[0] * wanted][:wanted], 0, 1
    ):
        expected = examples[row]
        if not np.array_equal(mask, expected[1]):
            raise RuntimeError(f"{kind.name}: mask {row} is not what was stored")
        differences.append(np.abs(image.astype(int) - expected[0]).mean())
        seen.add(row)
    if not seen.issuperset(rows):
        raise RuntimeError(f"{kind.name}: {len(set(rows) - seen)} rows are missing")
    if any(differences) and not kind.lossy:
        raise RuntimeError(f"{kind.name}: images are not what was stored")
    return f"off by {np.mean(differences):.2g} of 255" if kind.lossy else "equal"


def tables(result: dict[str, Any]) -> None:
    """Print figures and their multiples of ours."""
    found = result["stores"]
    reads = [key for key in next(iter(found.values())) if "reader" in key]
    header = ["store", *(f"{key}, images/s" for key in reads)]
    header += ["CPU µs/image", "MB on disk", "files", "write s", "pixels"]
    ours = next(iter(found.values()))
    lines = []
    for name, row in found.items():
        speeds = [_beside(row[key], ours[key]) for key in reads]
        cpu = row[reads[0]]["cpu_us_per_image"]
        size = f"{row['bytes_on_disk'] / 1e6:.0f}"
        written = f"{row['write_seconds']:.1f}"
        facts = [f"{cpu:.0f}", size, str(row["files"]), written, row["pixels"]]
        lines.append([name, *speeds, *facts])
    count, size = result["images"], result["size"]
    print_table((f"{count} images of {size} x {size}", header, lines))


def _beside(row: dict[str, float] | None, ours: dict[str, float] | None) -> str:
    if row is None or ours is None:
        return "not measured"
    speed = row["images_per_second"]
    return f"{speed:.0f} ({speed / ours['images_per_second']:.2f}x)"


def run(given: argparse.Namespace) -> dict[str, Any]:
    examples = load(given.data, given.size, given.images)
    readers = sorted({1, threads_here()} if given.readers is None else given.readers)
    given.work.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(dir=given.work))
    try:
        found = compare(
            examples,
            stores(),
            root,
            processes=readers,
            reads=given.reads,
            repeats=given.repeats,
        )
    finally:
        shutil.rmtree(root)
    return {
        "machine": machine(),
        "versions": {name: _version(name) for name in _PEERS},
        "images": len(examples),
        "real_images": len(examples.images),
        "size": examples.size,
        "reads_per_reader": given.reads,
        "webdataset": {"pairs_per_tar": SHARD, "shuffle_buffer": SHUFFLE},
        "stores": found,
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.store", description=__doc__)
    add = parser.add_argument
    add("data", type=Path, help="folder with the BUSI and ISIC 2017 archives")
    add("--images", type=int, default=5000)
    add("--size", type=int, default=256, help="pixels, side of the square")
    add("--reads", type=int, default=1000, help="rows that a reader reads")
    add("--repeats", type=int, default=3)
    add("--readers", type=int, nargs="+", help="default: 1 and one a core")
    add("--work", type=Path, default=Path(".kmunet/store"), help="on the disk to test")
    add("--out", type=Path, default=Path("benchmarks/results/store.json"))
    given = parser.parse_args(arguments)
    try:
        result = run(given)
    except KMUNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tables(result)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(rounded(result), indent=1, sort_keys=True) + "\n")
    print(f"figures: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
