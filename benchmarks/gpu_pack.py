"""A prepared data set in one file, for trainings where torch and numpy alone are.

`python -m benchmarks.gpu_pack PREPARED FILE [--seeds 2981 6142 1187] [--quality Q]`
writes images and masks at one size, and for each training that gpu_train may do its
parameters, split and scaling: the recipe `paper` a split seed each, the recipe `best`
on the `clean` split. Images are kept to the bit, or as WebP of a quality below 100.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from kmunet.config import Params
from kmunet.data.division import write_split
from kmunet.data.store import PackedSet, open_prepared
from pipelines.overrides import Value, expand, overridden
from pipelines.train import model_arguments, training_data

PAPER_SEEDS = (2981, 6142, 1187)
PARAMS = Path(__file__).parents[1] / "params.yaml"
_TO_THE_BIT = 101  # how OpenCV asks for it


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("prepared", type=Path, help="data/prepared/NAME")
    parser.add_argument("file", type=Path, help="FILE.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=PAPER_SEEDS)
    parser.add_argument("--quality", type=int, default=_TO_THE_BIT)
    given = parser.parse_args(arguments)
    write(given.prepared, given.file, tuple(given.seeds), given.quality)
    print(f"{given.file}: {given.file.stat().st_size / 2**20:.1f} MiB")


def write(
    folder: Path, file: Path, seeds: tuple[int, ...], quality: int = _TO_THE_BIT
) -> None:
    """One .npz: encoded images, packed masks, and `trainings` with their `places`."""
    prepared = open_prepared(folder)
    wanted: list[dict[str, Value]] = [
        {"recipe": "paper", "split.seed": seed} for seed in seeds
    ]
    trainings, places = [], []
    for overrides in [*wanted, {"recipe": "best"}]:
        params = overridden(PARAMS, expand(PARAMS, overrides))
        with tempfile.TemporaryDirectory() as scratch:
            settings = params.split.model_dump(mode="json")
            place = Path(scratch) / "split"
            packed = write_split(prepared, place, params.split, settings)
            trainings.append(training(str(overrides["recipe"]), params, packed))
            places.append(packed.places)
    images = [encoded(image, quality) for image in packed.images[:]]
    meta = {
        "dataset": folder.name,
        "size": packed.size,
        "quality": quality,
        "trainings": trainings,
    }
    np.savez_compressed(
        file,
        meta=np.frombuffer(json.dumps(meta).encode(), np.uint8),
        images=np.concatenate(images),
        lengths=np.array([len(image) for image in images]),
        masks=packed.masks[:],
        places=np.stack(places),
    )


def training(recipe: str, params: Params, packed: PackedSet) -> dict[str, Any]:
    """What `fit` and `build_model` are called with, as JSON."""
    if params.augment != "paper":
        raise ValueError(f"augment {params.augment}: gpu_train knows 'paper' alone")
    data = training_data(params, packed)
    return {
        "name": f"{recipe}-{params.split.seed}",
        "recipe": recipe,
        "train": params.train.model_dump(mode="json"),
        "model": model_arguments(params, packed),
        "mean": data.mean,
        "std": data.std,
    }


def encoded(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """RGB (S, S, 3) as the bytes of a WebP file."""
    bgr = np.ascontiguousarray(image[..., ::-1])
    _, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    return np.asarray(data, np.uint8).ravel()


if __name__ == "__main__":
    main()
