"""Stage train: fit a model with Ray Train on the prepared data of one data set."""

import csv
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmunet.config import Params, parse_params
from kmunet.data.dataset import SegmentationDataset
from kmunet.data.digest import sha256_of
from kmunet.data.store import PackedSet, open_packed
from kmunet.data.transforms import Transform, build_transform
from kmunet.device import choose_device
from kmunet.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    KMUNetError,
    TrainingError,
)
from kmunet.models import build_model
from kmunet.models.registry import BASELINES
from kmunet.ops import backend, use_backend
from kmunet.training import Reporter, TrainingData, fit
from kmunet.training.determinism import make_deterministic
from kmunet.training.precision import Precision
from kmunet.training.space import checkpoint_bytes, told_if_full
from pipelines.content import receive, send
from pipelines.live import live_run
from pipelines.paths import Paths
from pipelines.progress import TrainingProgress
from pipelines.ray_code import versions
from pipelines.receipt import Receipt, make_receipt
from pipelines.stage import stage_main
from pipelines.storage import chosen_storage

if TYPE_CHECKING:
    from pipelines.ray_backend import Cluster

DEEPEST = 32  # pixels of which the tokenized stages leave one
MUCH_EMPTY = 0.02  # of the training images
MUCH_OUTSIDE = 0.1  # of the numbers that go into KAN layers


def run(params: Params, paths: Paths) -> None:
    """Train, and write model.safetensors, model.json, history.csv and receipt.json.

    A run that was interrupted goes on from its last checkpoint: its name is a hash of
    all that determines its result.
    """
    from pipelines.ray_backend import run_on_ray
    from pipelines.ray_cluster import shutdown  # seconds, and much memory

    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    check_before_start(params, packed)
    note_empty(params, packed)
    cluster = cluster_for(params, paths, packed)
    storage = chosen_storage(paths.root)
    model = build_model(**model_arguments(params, packed))
    storage.check(cluster.name, checkpoint_bytes(model, params.train))
    config = worker_config(params, paths, packed)
    try:
        with (
            TrainingProgress() as progress,
            live_run(params, paths, packed, cluster.name) as live,
        ):
            with run_on_ray(
                train_worker, config, cluster, progress.update, live.onlookers()
            ) as checkpoint:
                export(checkpoint, params, packed, paths.model)
            live.trained(paths.model / "model.safetensors")
    finally:
        shutdown()
    try:
        storage.remove(cluster.name)
    except KMUNetError as error:  # the model is there: nothing is lost
        print(f"note: checkpoints stay: {error}")
    note_grid(paths.model / "history.csv")


def note_empty(params: Params, packed: PackedSet) -> None:
    """Say so where a model will be shown much that has nothing, and not taught it."""
    counts = packed.division["counts"]["train"]
    share = counts["empty"] / counts["images"]
    if share > MUCH_EMPTY and not params.model.presence:
        print(
            f"note: {counts['empty']} of {counts['images']} training images "
            f"({100 * share:.0f} %) have empty masks, which losses of pixels hardly "
            "teach: model.presence=true learns by image whether there is anything"
        )


def note_grid(history: Path) -> None:
    """Say so where much of what the KAN layers got lay outside their splines' grids."""
    with history.open(encoding="utf-8") as file:
        shares = [float(row["kan_outside"]) for row in csv.DictReader(file)]
    if max(shares) > MUCH_OUTSIDE:
        print(
            f"note: {100 * shares[-1]:.0f} % of the inputs of KAN layers lay outside "
            f"their spline grids at the end (at most {100 * max(shares):.0f} %): there "
            "only SiLU is left; train.grid_updates fits the grids to the data"
        )


def worker_config(params: Params, paths: Paths, packed: PackedSet) -> dict[str, Any]:
    """What `train_worker` is called with: plain values that travel."""
    return {
        "params": params.model_dump(mode="json", by_alias=True),
        "fingerprint": packed.fingerprint,
        **{
            name: send(paths.root, path.relative_to(paths.root).as_posix())
            for name, path in (("prepared", paths.prepared), ("splits", paths.splits))
        },
    }


def train_worker(config: dict[str, Any], reporter: Reporter) -> None:
    """Run in every Ray worker: build model and data, and fit."""
    params = parse_params(config["params"])
    make_deterministic(params.train.seed, params.train.threads)
    packed = received(config, params.train.size)
    fit(
        build_model(**model_arguments(params, packed)),
        training_data(params, packed),
        params.train,
        reporter,
    )


def received(config: dict[str, Any], size: int | None) -> PackedSet:
    """Data and split on this node. DataError unless they are those of the driver."""
    places = receive(config["prepared"]), receive(config["splits"])
    packed = open_packed(*places, size)
    if packed.fingerprint != config["fingerprint"]:
        raise DataError(
            f"{places[0]} and {places[1]} on node {platform.node()}: other data than "
            "the training began with; copy the driver's folders there, or remove them, "
            "and they come from the DVC remote (after `dvc push`)"
        )
    return packed


def check_before_start(params: Params, packed: PackedSet) -> None:
    """Find what would stop the workers, before Ray starts."""
    Precision(params.train.precision, choose_device(params.train.device))
    try:
        scan_backend(params)
    except ConfigError as error:
        raise ConfigError(f"train.scan_backend: {error}") from None
    transform = _transform(params)
    if transform is not None:
        transform.check(packed.size)
    build_model(**model_arguments(params, packed))
    images = len(packed.indices("train"))
    if images < params.train.batch_size:
        raise TrainingError(
            f"train.batch_size {params.train.batch_size} is more than the "
            f"{images} training images: lower it or add images"
        )
    at_once = params.train.batch_size // params.train.accumulate
    if at_once == 1 and packed.size <= DEEPEST and params.model.name not in BASELINES:
        raise TrainingError(
            f"train.batch_size {params.train.batch_size} with train.accumulate "
            f"{params.train.accumulate}: of one image of {packed.size} pixels at a "
            "time the deepest norms see a single number: take more at once, or larger"
        )


def model_arguments(params: Params, packed: PackedSet) -> dict[str, Any]:
    """What `build_model` is called with: RGB in; one class out, or several and none."""
    classes = len(packed.classes)
    channels = {"in_channels": 3, "num_classes": 1 if classes == 1 else classes + 1}
    return {**channels, **params.model.model_dump(mode="json")}


def _transform(params: Params) -> Transform | None:
    key = f"presets.{params.augment}"
    return build_transform(params.transforms(), params.train.seed, key)


def training_data(params: Params, packed: PackedSet) -> TrainingData:
    """The images of the split, augmented to learn from, plain to select on."""
    transform = _transform(params)
    train = SegmentationDataset(packed, packed.indices("train"), transform)
    validation = SegmentationDataset(packed, packed.indices("validation"))
    return TrainingData(train, validation, *_scaling(params, packed))


def _scaling(
    params: Params, packed: PackedSet
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std by channel, RGB, of inputs in 0 to 1.

    `published`: the KM-UNet code applies ImageNet's RGB statistics to BGR images, and
    divides by 255 once more.
    """
    if params.train.scaling == "data":
        return tuple(packed.mean), tuple(packed.std)
    return (0.406, 0.456, 0.485), (255 * 0.225, 255 * 0.224, 255 * 0.229)


def cluster_for(params: Params, paths: Paths, packed: PackedSet) -> "Cluster":
    """What the training asks of Ray, and the name under which it resumes."""
    from pipelines.ray_backend import Cluster

    train = params.train
    return Cluster(
        workers=train.workers,
        threads=train.threads,
        gpu=choose_device(train.device).type == "cuda",
        max_failures=train.max_failures,
        storage=chosen_storage(paths.root),
        name=run_name(params, paths.dataset, packed),
    )


def run_name(params: Params, dataset: str, packed: PackedSet) -> str:
    """A hash of parameters, data, code and packages: only the same run resumes."""
    sections = params.model_dump(mode="json", by_alias=True)
    transforms = sections["presets"][params.augment]
    digest = hashlib.sha256(packed.fingerprint.encode())
    for section in (transforms, sections["model"], sections["train"]):
        digest.update(json.dumps(section, sort_keys=True).encode())
    ran = [scan_backend(params), versions()]  # with the code
    digest.update(json.dumps(ran, sort_keys=True).encode())
    return f"{dataset}-{digest.hexdigest()[:16]}"


def export(
    checkpoint: Path,
    params: Params,
    packed: PackedSet,
    target: Path,
    budget: str = "",
) -> None:
    """Write the model folder, named as the data set, whole or not at all.

    `budget` is what led the schedule, if not the epochs of `params`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    needed = (checkpoint / "best.safetensors").stat().st_size
    with (
        told_if_full(target.parent, needed, "the model"),
        tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as folder,
    ):
        fresh = Path(folder) / "model"
        fresh.mkdir()
        shutil.copyfile(checkpoint / "best.safetensors", fresh / "model.safetensors")
        if sha256_of(fresh / "model.safetensors") != state["sha256"]["best"]:
            raise CheckpointError(
                f"{checkpoint}: best.safetensors is not what was written: the same "
                "command goes on from the checkpoint before"
            )
        text = json.dumps(_card(params, packed, state), indent=1, sort_keys=True)
        (fresh / "model.json").write_text(text + "\n", encoding="utf-8")
        write_history(fresh / "history.csv", state["history"])
        losses = state["first_losses"]
        receipt(params, target.name, packed, losses, budget).write(fresh)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)


def receipt(
    params: Params,
    dataset: str,
    packed: PackedSet,
    losses: list[float],
    budget: str = "",
) -> Receipt:
    """Of a training of `params` on `packed`, here."""
    values = _narrow(params.model_dump(mode="json", by_alias=True), dataset)
    device = choose_device(params.train.device)
    fingerprint, scan = packed.fingerprint, scan_backend(params)
    return make_receipt(dataset, values, fingerprint, scan, device, losses, budget)


def _narrow(values: dict[str, Any], dataset: str) -> dict[str, Any]:
    """Without other data sets and presets: they have no part in this training."""
    preset = values["augment"]
    return values | {
        "datasets": [dataset],
        "sources": {dataset: values["sources"][dataset]},
        "presets": {preset: values["presets"][preset]},
        "recipes": {},
    }


def scan_backend(params: Params) -> str:
    """The scan that will run, where "auto" is asked for. Raises ConfigError."""
    with use_backend(params.train.scan_backend):
        return backend(choose_device(params.train.device))


def _card(params: Params, packed: PackedSet, state: dict[str, Any]) -> dict[str, Any]:
    best = state["history"][state["best_epoch"] - 1]
    mean, std = _scaling(params, packed)
    return {
        "model": model_arguments(params, packed),
        "input": {
            "size": packed.size,
            "mean": list(mean),
            "std": list(std),
        },
        "classes": list(packed.classes),
        "threshold": params.train.threshold,
        "best": {"epoch": state["best_epoch"], "iou": best["val_iou"]},
        "data_fingerprint": packed.fingerprint,
        "scan_backend": scan_backend(params),
        "precision": params.train.precision,
    }


def write_history(path: Path, history: Iterable[dict[str, float]]) -> None:
    """One row an epoch, rounded to what is meant: curves, not bits."""
    rows = list(history)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.8g}" for key, value in row.items()})


if __name__ == "__main__":
    raise SystemExit(stage_main("train", run))
