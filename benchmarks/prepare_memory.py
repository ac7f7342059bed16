"""Memory, time and disk of `prepare` and `split` at 1k, 10k and 100k images.

`python -m benchmarks.prepare_memory [COUNT ...]` writes results/prepare_memory.json and
.png. Each count is drawn, prepared and split by processes of its own; images are small
(64x64, PNG), so what is seen is what grows with their number: 1 of 50 is a copy of the
one before under new noise, for the search for duplicates.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SIDE = 64
COUNTS = (1000, 10_000, 100_000)
RESULTS = Path(__file__).parent / "results"
RULES = {"protocol": "clean", "seed": 1, "validation": 0.15, "test": 0.15,
         "folds": 1, "fold": 0, "official": True, "stable": False}  # fmt: skip


def main(counts: list[int]) -> None:
    from benchmarks.measure import machine, rounded

    runs = [_measure(count) for count in counts]
    first, last = runs[0], runs[-1]
    more = max(1, last["images"] - first["images"])
    result = {
        "what": f"{SIDE}x{SIDE} PNG images, packed at {SIDE} and native size",
        "machine": machine(),
        "runs": runs,
        "bytes_an_image": {
            name: 2**20 * (last[name]["peak_mb"] - first[name]["peak_mb"]) / more
            for name in ("open", "prepare", "split")
        },
    }
    text = json.dumps(rounded(result), indent=1, sort_keys=True)
    (RESULTS / "prepare_memory.json").write_text(text + "\n", encoding="utf-8")
    _plot(runs)


def _measure(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        steps = ("draw", "open", "prepare", "split")
        found = {step: _step(step, count, folder) for step in steps}
        found["draw"].pop("peak_mb")
        disk = {
            name: _bytes(Path(folder, name)) / 2**20 for name in ("raw", "set", "split")
        }
    print(count, found, flush=True)
    return {"images": count, **found, "disk_mb": disk}


def _step(step: str, count: int, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.prepare_memory", step, str(count)]
    done = subprocess.run([*command, folder], check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def _child(step: str, count: int, root: Path) -> dict[str, Any]:
    call = {"draw": _draw, "open": _open, "prepare": _prepare, "split": _split}[step]
    wall, cpu = time.perf_counter(), time.process_time()
    more = call(root, count) or {}
    return {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": _peak(),
        **more,
    }


def _draw(root: Path, count: int) -> None:
    import cv2

    disc = np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) < SIDE / 4
    for kind in ("images", "masks"):
        (root / "raw" / kind).mkdir(parents=True)
    for number in range(count):
        copy = number % 50 == 1
        random = np.random.default_rng(number - copy)
        base = cv2.resize(random.normal(120, 30, (9, 9)), (SIDE, SIDE))
        base += random.normal(0, 25, base.shape)
        base += np.random.default_rng([number, 1]).normal(0, 3, base.shape)
        mask = np.roll(disc, random.integers(-20, 20, 2), (0, 1)) * np.uint8(255)
        name = f"{number:06d}.png"
        image = np.clip(base, 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / "raw" / "images" / name), image)
        cv2.imwrite(str(root / "raw" / "masks" / name), mask)


def _open(root: Path, count: int) -> None:
    """The names of all files and pairs: what every reader of a folder holds."""
    from kmunet.data import pack
    from kmunet.data.sources import open_source

    assert pack
    with open_source("folder", root / "raw") as source:
        assert len(source.matched) == count


def _prepare(root: Path, count: int) -> dict[str, Any]:
    from kmunet.data import pack
    from kmunet.data.sources import open_source

    plain, spent = pack.find_links, []

    def timed(*given: Any) -> Any:
        spent.append(time.perf_counter())
        found = plain(*given)
        spent.append(time.perf_counter())
        return found

    pack.find_links = timed
    with open_source("folder", root / "raw") as source:
        prepared = pack.write_packed(root / "set", source, [SIDE], native=True)
    pairs = {link.a: link.b for link in prepared.links()}
    expected = sum(pairs.get(row) == row + 1 for row in range(0, count, 50))
    return {
        "duplicates_seconds": spent[1] - spent[0],
        "duplicates": len(pairs),
        "copies_found": expected,
        "index_bytes": prepared.index.dtype.itemsize,
    }


def _split(root: Path, count: int) -> None:
    from kmunet.data.division import write_split
    from kmunet.data.store import open_prepared

    rules = SimpleNamespace(**RULES)
    write_split(open_prepared(root / "set"), root / "split", rules, RULES)


def _peak() -> float:
    """Peak resident memory of this process alone, MiB (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _plot(runs: list[dict[str, Any]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3), dpi=100)
    counts = [run["images"] for run in runs]
    for step in ("open", "prepare", "split"):
        axes.plot(counts, [run[step]["peak_mb"] for run in runs], "o-", label=step)
    thumbnails = [count * 33 / 1024 + runs[0]["open"]["peak_mb"] for count in counts]
    axes.plot(counts, thumbnails, ":", color="grey", label="thumbnails in memory")
    axes.set(xscale="log", xlabel="images", ylabel="peak memory, MiB", ylim=(0, 1500))
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(RESULTS / "prepare_memory.png", metadata={"Software": None})


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].isdigit():
        step, count, root = sys.argv[1:]
        print(json.dumps(_child(step, int(count), Path(root))))
    else:
        main([int(text) for text in sys.argv[1:]] or list(COUNTS))
