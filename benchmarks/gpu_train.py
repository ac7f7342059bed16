"""Trainings on a GPU from a packed file: `fit` itself, with torch and numpy.

`python3 -m benchmarks.gpu_train FILE.npz [--only paper-2981 ...] [--models km_unet ...]
[--seeds 1 2 3] [--minutes 4] [--set train.precision=bfloat16 ...] --out RESULT.json`.
FILE is gpu_pack's. Needs OpenCV and safetensors besides. RESULT grows by each training
as it ends: seconds, curves, and the scores of the best epoch's weights, pooled as the
paper counts them and by image. With `--minutes` all have that time and the schedule
follows it. What is done and the checkpoints lie in `--folder`: a call that was stopped,
or stopped itself by `--stop-after`, goes on from there when it is repeated.
"""

import argparse
import copy
import hashlib
import json
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.gpu_kept import Kept
from benchmarks.measure import machine, rounded
from kmunet.data.record import SPLITS, in_split
from kmunet.errors import TrainingStoppedError
from kmunet.evaluation import pooled_iou
from kmunet.evaluation.overlap import count, dice, iou
from kmunet.models import MODELS, build_model
from kmunet.models.registry import BASELINES
from kmunet.training import LocalReporter, TrainingData, fit
from kmunet.training.batches import Batches
from kmunet.training.determinism import make_deterministic

ENDLESS = 1_000_000  # epochs
STOPPED = 3  # exit code


@dataclass(frozen=True)
class Packed:
    """What gpu_pack wrote, decoded."""

    meta: dict[str, Any]
    images: Tensor  # uint8 (N, 3, S, S), RGB
    masks: Tensor  # uint8 (N, S, S)
    places: NDArray[np.uint8]  # (trainings, N)

    def rows(self, training: int, split: str) -> NDArray[np.int64]:
        """Of a split of a training, ascending."""
        return np.flatnonzero(in_split(self.places[training], split))


class Rows:
    """`Samples` in memory; `augment`ed by the seed, the epoch and the position."""

    def __init__(
        self, packed: Packed, rows: NDArray[np.int64], augment: int | None = None
    ) -> None:
        self.packed, self.rows, self.augment = packed, rows, augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, position = key
        row = int(self.rows[position])
        image, mask = self.packed.images[row], self.packed.masks[row]
        if self.augment is not None:
            stream = np.random.default_rng([self.augment, epoch, position])
            image, mask = turned(image, mask, stream)
        return {"image": image, "mask": mask}


def turned(
    image: Tensor, mask: Tensor, stream: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The preset `paper`: 0 to 3 quarter turns and each flip, in half of all cases."""
    turns = int(stream.integers(4)) * int(stream.random() < 0.5)
    axes = [axis for axis in (-1, -2) if stream.random() < 0.5]
    both = (torch.rot90(x, turns, (-2, -1)).flip(axes) for x in (image, mask))
    return cast(tuple[Tensor, Tensor], tuple(both))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="recipe-seed")
    parser.add_argument("--models", nargs="+", default=["km_unet"])
    parser.add_argument("--seeds", nargs="+", type=int, help="train.seed")
    parser.add_argument("--minutes", type=float, help="in place of the epochs")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, required=True)
    kept = "what is done, and checkpoints (default: OUT's name with .kept)"
    parser.add_argument("--folder", type=Path, help=kept)
    stop = "save and end then; the same command goes on"
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help=stop)
    given = parser.parse_args(arguments)
    stops = given.stop_after and time.monotonic() + given.stop_after
    folder = given.folder or given.out.with_suffix(".kept")
    packed = read(given.file)
    trainings = [training["name"] for training in packed.meta["trainings"]]
    for named, known in ((given.only or [], trainings), (given.models, MODELS)):
        if unknown := set(named) - set(known):
            parser.error(f"unknown: {min(unknown)}; known: {', '.join(known)}")
    result: dict[str, Any] = {"machine": machine(), "runs": []}
    changes = dict(pair.partition("=")[::2] for pair in given.set)
    for number, training in enumerate(packed.meta["trainings"]):
        if given.only and training["name"] not in given.only:
            continue
        for name, seed in product(given.models, given.seeds or [None]):
            own = {} if seed is None else {"train.seed": str(seed)}
            chosen = changed(training, {"model.name": name, **own, **changes})
            if given.minutes:
                chosen["train"]["epochs"] = ENDLESS
            place = folder / name_of(packed, chosen, given.minutes)
            try:
                found = run(packed, number, chosen, place, given.minutes, stops)
            except TrainingStoppedError as error:
                print(f"{place}: {error}", flush=True)
                raise SystemExit(STOPPED) from None
            result["runs"].append(found)
            text = json.dumps(rounded(result), sort_keys=True)
            given.out.write_text(text + "\n", encoding="utf-8")
            print(line(found), flush=True)


def read(file: Path) -> Packed:
    """Decode a file of gpu_pack."""
    with np.load(file) as found:
        meta = json.loads(found["meta"].tobytes())
        ends = np.cumsum(found["lengths"])[:-1]
        coded = np.split(found["images"], ends)
        bgr = np.stack([cv2.imdecode(data, cv2.IMREAD_COLOR) for data in coded])
        images = np.ascontiguousarray(bgr[..., ::-1].transpose(0, 3, 1, 2))
        masks, places = found["masks"], found["places"]
    return Packed(meta, torch.from_numpy(images), torch.from_numpy(masks), places)


def changed(training: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    """With values of `train.` and `model.` replaced; a baseline has one depth."""
    chosen = {key: dict(training[key]) for key in ("train", "model")}
    for key, text in changes.items():
        section, _, name = key.partition(".")
        if name not in chosen.get(section, {}):
            raise SystemExit(f"--set {key}: no such key")
        try:
            chosen[section][name] = json.loads(text)
        except json.JSONDecodeError:
            chosen[section][name] = text
    if chosen["model"]["name"] in BASELINES:
        chosen["model"]["deep_supervision"] = False
    return training | chosen


def name_of(packed: Packed, training: dict[str, Any], minutes: float | None) -> str:
    """Another one for every setting: what was done with others is not gone on with."""
    whole = json.dumps([packed.meta["dataset"], training, minutes], sort_keys=True)
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{training['name']}-{training['model']['name']}-{digest}"


def run(
    packed: Packed,
    number: int,
    training: dict[str, Any],
    folder: Path,
    minutes: float | None = None,
    stops: float | None = None,
) -> dict[str, Any]:
    """Train and score, unless the folder has the result; go on from what it has.

    Raises TrainingStoppedError after `stops` (time.monotonic), with all saved.
    """
    done = folder / "result.json"
    if done.exists():
        return cast(dict[str, Any], json.loads(done.read_text(encoding="utf-8")))
    params = cast(Any, SimpleNamespace(**training["train"]))
    make_deterministic(params.seed, params.threads)
    model = build_model(**training["model"])
    rows = {split: packed.rows(number, split) for split in SPLITS}
    data = TrainingData(
        Rows(packed, rows["train"], params.seed),
        Rows(packed, rows["validation"]),
        tuple(training["mean"]),
        tuple(training["std"]),
    )
    warm_up(model, data, params)
    kept = Kept(folder / "checkpoints", minutes, stops)
    kept.folder.mkdir(parents=True, exist_ok=True)
    state = fit(model, data, params, kept, kept)
    load_best(model, kept.folder / "latest")
    scores = {
        split: score(packed, rows[split], model, params, data)
        for split in ("validation", "test")
    }
    found = {
        "dataset": packed.meta["dataset"],
        "training": training["name"],
        "model": training["model"],
        "train": training["train"],
        "images": {split: len(rows[split]) for split in SPLITS},
        "seconds": state.seconds,
        "steps": state.step,
        "best_epoch": state.best_epoch,
        "history": {
            key: [epoch[key] for epoch in state.history] for key in state.history[0]
        },
        "scores": scores,
    }
    written = folder / "result.tmp"
    written.write_text(json.dumps(found), encoding="utf-8")
    written.replace(done)
    rmtree(kept.folder)
    return found


def warm_up(model: nn.Module, data: TrainingData, params: Any) -> None:
    """A step and a validation of a copy: kernels are tuned before any clock runs.

    No bit of the training changes: `fit` seeds all that it draws from. What torch
    compiles is compiled by the training's own first step, which is not counted either.
    """
    once = vars(params) | {"max_steps": 1, "compile": False}
    with tempfile.TemporaryDirectory() as folder:
        reporter = LocalReporter(Path(folder))
        fit(copy.deepcopy(model), data, cast(Any, SimpleNamespace(**once)), reporter)


def load_best(model: nn.Module, checkpoint: Path) -> None:
    """The weights of the best epoch."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(checkpoint / "best.safetensors"))


@torch.no_grad()
def score(
    packed: Packed,
    rows: NDArray[np.int64],
    model: nn.Module,
    params: Any,
    data: TrainingData,
) -> dict[str, float]:
    """IoU and Dice, pooled over batches of 8 as the paper's code does, and by image."""
    device = next(model.parameters()).device
    scaled = TrainingData(Rows(packed, rows), Rows(packed, rows), data.mean, data.std)
    batches = Batches(scaled, params, LocalReporter(Path()), device)
    model.eval()
    predicted = np.concatenate(
        [
            (torch.sigmoid(model(image)[:, 0].float()) > params.threshold).cpu().numpy()
            for image, _ in batches.validation()
        ]
    )
    truth = packed.masks[torch.from_numpy(rows)].numpy() > 0
    pooled = pooled_iou(predicted, truth)
    counts = [count(p, t) for p, t in zip(predicted, truth, strict=True)]
    return {
        "pooled_iou": pooled[0],
        "pooled_dice": pooled[1],
        "iou": fmean(map(iou, counts)),
        "dice": fmean(map(dice, counts)),
    }


def line(result: dict[str, Any]) -> str:
    """One training, in short."""
    test = result["scores"]["test"]
    return (
        f"{result['dataset']} {result['training']} {result['model']['name']}: "
        f"{result['seconds']:.0f} s, {result['steps']} steps, best epoch "
        f"{result['best_epoch']}, pooled IoU {100 * test['pooled_iou']:.2f} "
        f"Dice {100 * test['pooled_dice']:.2f}, by image IoU {100 * test['iou']:.2f}"
    )


if __name__ == "__main__":
    main()
