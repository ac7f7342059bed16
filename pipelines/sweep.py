"""`kmunet sweep`: train over folds and seeds, or search hyper-parameters.

`kmunet sweep busi cvc --folds 5 --seeds 1 2 3` tests every fold with every seed and
tells mean, interval and spread. `kmunet sweep busi --search space.yaml` looks for the
parameters of the best validation IoU; test images take no part in it. Both run as many
trials side by side as Ray has room for, record each in MLflow under one parent run, and
go on where they were stopped.
"""

import argparse
from pathlib import Path

from kmunet.errors import ConfigError

# Of a search alone: what they are where they are not given.
SEARCH = {
    "trials": 16,
    "search_seed": 0,
    "scheduler": "asha",
    "metric": "val_iou",
    "grace": None,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("datasets", nargs="+", metavar="DATASET", help="a prepared data set")
    add("--folds", type=int, metavar="K", help="default: split.folds of params.yaml")
    add("--seeds", type=int, nargs="+", metavar="SEED", help="default: train.seed")
    values = "a value of params.yaml for this sweep, as in train.epochs=2"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=values)
    space = "keys of params.yaml with the values to try (docs/training.md)"
    add("--search", type=Path, metavar="SPACE.YAML", help=space)
    add("--trials", type=int, metavar="N", help="of a search; default 16")
    drawn = "of what is drawn; default 0"
    add("--search-seed", type=int, metavar="SEED", help=drawn)
    ended = "of a search; default asha"
    add("--scheduler", choices=("asha", "none"), help=ended)
    kept = "of each epoch, on validation images; default val_iou"
    add("--metric", choices=("val_iou", "val_dice"), help=kept)
    cores = "of Ray's CPUs for a trial, as in 0.5; default: train.threads"
    add("--cpus", type=float, metavar="SHARE", help=cores)
    add("--gpus", type=float, metavar="SHARE", help="of a GPU, as in 0.25")
    grace = "epochs before ASHA may end a trial; default: a ninth of train.epochs"
    add("--grace", type=int, metavar="EPOCHS", help=grace)
    add("--out", type=Path, metavar="FOLDER", help="of the report; default: in runs/")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing of the sweep and report; 1 if a trial failed, 130 if stopped.

    Raises KMUNetError for what can be known to be wrong before anything starts.
    """
    from pipelines.sweep_folds import sweep_folds
    from pipelines.sweep_search import sweep_search

    _fill(arguments)
    conduct = sweep_search if arguments.search else sweep_folds
    return conduct(arguments, Path.cwd())


def _fill(arguments: argparse.Namespace) -> None:
    """In what a search was not told; without one, nothing may be told of it."""
    for name, default in SEARCH.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
        elif arguments.search is None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(
                f"{option}: of a search alone: add --search SPACE.YAML or leave it out"
            )
