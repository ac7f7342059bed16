"""`kmunet compare DATASET`: models on your data with the same budget, side by side.

Each model and seed is trained with all of params.yaml alike, selected on validation
and scored on the test split; with `--folds K` on each of K parts in turn, so that every
image is tested once. What is trained already is not trained again; an interrupted run
goes on. Registers nothing, and writes nothing that DVC keeps.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmunet.errors import ConfigError
from pipelines.paths import Paths
from pipelines.report_folder import report_folder

if TYPE_CHECKING:
    from kmunet.config import Params
    from kmunet.data.store import PackedSet
    from pipelines.comparison.request import Limit
    from pipelines.comparison.runs import Result

BUDGETS = {
    "minutes": "minutes of training and validation, by the clock",
    "cpu_minutes": "the same in CPU time, which a busy machine does not change",
    "epochs": "epochs",
    "steps": "steps of the optimizer",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a data set that is prepared and split")
    which = "the first is compared with (default: km_unet unet)"
    add("--models", nargs="+", metavar="NAME", default=["km_unet", "unet"], help=which)
    seeds = "a training each (default: train.seed)"
    add("--seeds", nargs="+", type=int, metavar="SEED", help=seeds)
    folds = "test each of K parts in turn (default: the split of `dvc repro`)"
    add("--folds", type=int, metavar="K", help=folds)
    out = "folder of the report (default: reports/compare/DATASET)"
    add("--out", type=Path, metavar="DIR", help=out)
    values = "of params.yaml for this comparison; recipe=NAME for several"
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help=values)  # fmt: skip
    budget = parser.add_mutually_exclusive_group()
    for name, about in BUDGETS.items():
        kind = int if name in ("epochs", "steps") else float
        option = f"--{name.replace('_', '-')}"
        budget.add_argument(option, type=kind, metavar="N", help=f"budget: {about}")


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, score, report. Raises KMUNetError before long work."""
    limit = read_limit(arguments)
    paths = Paths(Path.cwd(), arguments.dataset)
    default = paths.root / "reports" / "compare" / paths.dataset
    out = report_folder(arguments.out or default, "comparison.json")
    # What costs seconds to import comes after.
    from pipelines.comparison.request import (
        check_models,
        check_seeds,
        open_data,
        open_folds,
        plan_runs,
        read_params,
    )
    from pipelines.comparison.runs import results
    from pipelines.comparison.show import Show, print_table
    from pipelines.overrides import parse
    from pipelines.stage import short
    from pipelines.train import check_before_start

    check_models(arguments.models)
    values = dict(map(parse, arguments.set))
    params = read_params(paths, values, arguments.folds)
    seeds = arguments.seeds or [params.train.seed]
    check_seeds(seeds)
    whole = arguments.folds is None
    divisions = [open_data(params, paths)] if whole else open_folds(params, paths)
    runs = plan_runs(params, paths, divisions, arguments.models, seeds, limit)
    for planned in runs[:: len(seeds)]:
        check_before_start(planned.params, planned.packed)
    for note in _notes(divisions):
        print(f"note: {note}")
    with Show(runs) as show:
        found = results(runs, show.hear)
    page, rows = report(out, found, divisions, params, limit)
    print_table(rows)
    print(f"report: {short(page)}")
    return 0


def read_limit(arguments: argparse.Namespace) -> "Limit":
    """The budget. Raises ConfigError where there is none, or nothing in it."""
    from pipelines.comparison.request import Limit

    for name in BUDGETS:
        amount = getattr(arguments, name)
        if amount is None:
            continue
        if not 0 < amount < float("inf"):
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} {amount:g}: must be above 0")
        return Limit(name, amount)
    raise ConfigError(
        "no budget: give one of --minutes, --cpu-minutes, --epochs or --steps, such as "
        "--cpu-minutes 10 for each model and seed"
    )


def report(
    out: Path,
    found: "list[Result]",
    divisions: "list[PackedSet]",
    params: "Params",
    limit: "Limit",
) -> tuple[Path, list[dict[str, Any]]]:
    """Write the report, whole or not at all; its page and the rows of the models."""
    from kmunet.data.atomic import new_folder
    from kmunet.report.comparison import Comparison, write_comparison
    from pipelines.comparison import tables
    from pipelines.comparison.pictures import sheet_rows

    rows = tables.model_rows(found, params.evaluate)
    seed = found[0].run.seed
    firsts = [result for result in found if result.run.seed == seed]
    with new_folder(out) as folder:
        comparison = Comparison(
            facts=_facts(found, divisions, params, limit),
            models=rows,
            runs=tables.run_rows(found),
            curves=tables.curve_rows(found),
            images=tables.image_rows(found),
            sheet=sheet_rows(firsts, params.evaluate),
        )
        page = write_comparison(folder, comparison)
    return out / page.name, rows


def _facts(
    found: "list[Result]",
    divisions: "list[PackedSet]",
    params: "Params",
    limit: "Limit",
) -> dict[str, Any]:
    import torch

    from kmunet.evaluation.bootstrap import group_members
    from kmunet.models.registry import SHAPED_BY
    from pipelines.comparison.request import machine
    from pipelines.comparison.tables import tested

    changed = ("name", "seed", "epochs", "max_steps", "max_minutes", "workers")
    values = params.model_dump(mode="json", by_alias=True)
    models, packed = list(dict.fromkeys(r.run.model for r in found)), divisions[0]
    shaped = {
        key: [m for m in models if key in SHAPED_BY[m]] for key in values["model"]
    }
    return {
        "dataset": found[0].run.paths.dataset,
        "classes": list(packed.classes),
        "size": packed.size,
        "counts": _counts(divisions),
        "folds": len(divisions),
        "notes": _notes(divisions),
        "groups": len(group_members([row["group"] for row in tested(found)])),
        "budget": str(limit),
        "clock": "cpu" if limit.kind == "cpu_minutes" else "wall",
        "baseline": found[0].run.model,
        "seeds": list(dict.fromkeys(result.run.seed for result in found)),
        "confidence": params.evaluate.confidence,
        "resolution": params.evaluate.resolution,
        "data_fingerprints": [division.fingerprint for division in divisions],
        "machine": {
            "device": machine(params, limit),
            "threads": params.train.threads,
            "torch": torch.__version__,
        },
        "params": {
            "augment": params.augment,
            **{k: v for k, v in values["model"].items() if shaped[k]},
            **{k: v for k, v in values["train"].items() if k not in changed},
        },
        # Of these, what means nothing to some models.
        "params_of": {key: own for key, own in shaped.items() if own and own != models},
    }


def _counts(divisions: "list[PackedSet]") -> dict[str, int]:
    """Images: of all folds those tested, of the others the mean over folds."""
    sums = {
        name: sum(packed.division["counts"][name]["images"] for packed in divisions)
        for name in ("train", "validation", "test")
    }
    return {
        name: total if name == "test" else round(total / len(divisions))
        for name, total in sums.items()
    }


def _notes(divisions: "list[PackedSet]") -> list[str]:
    """What is to be known of the splits, each note once."""
    from kmunet.evaluation.bootstrap import group_members, too_few

    notes = [note for packed in divisions for note in packed.division["notes"]]
    tested = [p.records[row].group for p in divisions for row in p.indices("test")]
    return list(dict.fromkeys([*notes, *too_few(len(group_members(tested)))]))
