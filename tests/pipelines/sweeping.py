"""A small workspace for sweeps, and `kmunet sweep` in it."""

import argparse
from pathlib import Path

import yaml
from mlflow import MlflowClient

from kmunet.config import parse_params
from kmunet.data.synthetic import write_synthetic
from pipelines import prepare, sweep
from pipelines.paths import Paths

ROOT = Path(__file__).parents[2]


def make_workspace(root, **train):
    """Prepared data of 30 images, a tiny network, two steps a training."""
    paths = Paths(root, "synthetic")
    raw = yaml.safe_load((ROOT / "params.yaml").read_text())
    raw["sources"]["synthetic"]["sizes"] = [32]
    raw["model"]["widths"] = [8, 8, 8]
    raw["train"] |= {"epochs": 2, "max_steps": 2, "threads": 1, "batch_size": 4}
    raw["train"] |= train
    raw["evaluate"]["bootstrap"] = 100
    write_synthetic(paths.raw, 30, 40, seed=4)
    paths.params.write_text(yaml.safe_dump(raw))
    prepare.run(parse_params(raw), paths)
    return root


def kmunet_sweep(line):
    """Run a command line as `kmunet` does; its exit code."""
    parser = argparse.ArgumentParser()
    sweep.add_arguments(parser)
    return sweep.run(parser.parse_args(line.split()))


def runs_of(uri):
    """(parent runs, their children by name) in a store."""
    client = MlflowClient(uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {
        r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId")
    }
    return client, parents, children


if __name__ == "__main__":
    import sys

    raise SystemExit(kmunet_sweep(" ".join(sys.argv[1:])))
