"""A training that notes which samples each rank saw and each step's loss.

`python -c "import noted; noted.main()" FOLDER [local]`: on the Ray cluster that the
environment names, or in this process; writes FOLDER/noted.json and the weights.
"""

import json
import platform
import shutil
import sys
from importlib import import_module
from pathlib import Path

import torch.distributed as dist

from kmunet.config import load_params
from kmunet.data.dataset import SegmentationDataset
from kmunet.data.store import open_packed
from kmunet.training import LocalReporter
from pipelines.paths import Paths
from pipelines.train import cluster_for, train_worker, worker_config

training = import_module("kmunet.training.fit")  # the package has a function `fit`
FILES = ("noted.json", "weights.safetensors", "state.json")


class Noting:
    """A Reporter that puts what all ranks noted into each checkpoint."""

    def __init__(self, reporter, notes):
        self._reporter, self._notes = reporter, notes

    def __getattr__(self, name):
        return getattr(self._reporter, name)

    def report(self, metrics, checkpoint):
        everyone = [self._notes]
        if self._reporter.world_size > 1:
            everyone = [None] * self._reporter.world_size
            dist.all_gather_object(everyone, self._notes)
        if checkpoint is not None:
            (checkpoint / "noted.json").write_text(json.dumps(everyone))
        self._reporter.report(metrics, checkpoint)


def worker(config, reporter):
    """`train_worker`, watched in a process of its own."""
    notes = {"samples": [], "losses": [], "node": platform.node()}
    read, agree = SegmentationDataset.__getitem__, training._Run._agree

    def noted_read(self, key):
        if len(self) == config["images"]:
            notes["samples"].append(key)
        return read(self, key)

    def noted_agree(self, loss):
        notes["losses"].append(loss.item())
        return agree(self, loss)

    SegmentationDataset.__getitem__ = noted_read
    training._Run._agree = noted_agree
    train_worker(config, Noting(reporter, notes))


def main():
    import noted

    folder = Path(sys.argv[1])
    paths = Paths(Path.cwd(), "synthetic")
    params = load_params(paths.params)
    packed = open_packed(paths.prepared, paths.splits, params.train.size)
    images = {"images": len(packed.indices("train"))}
    config = worker_config(params, paths, packed) | images
    if sys.argv[2:] == ["local"]:
        noted.worker(config, LocalReporter(folder / "kept"))
        _take(folder / "kept/latest", folder)
        return
    from pipelines.ray_backend import run_on_ray
    from pipelines.ray_cluster import shutdown

    cluster = cluster_for(params, paths, packed)
    with run_on_ray(noted.worker, config, cluster, lambda _: None) as checkpoint:
        _take(checkpoint, folder)
    shutdown()


def _take(checkpoint, folder):
    for name in FILES:
        shutil.copyfile(checkpoint / name, folder / name)
