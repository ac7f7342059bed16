"""What a plain call ends with: the results, the reports, the next commands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows.results import Result
from pipelines.paths import state_dir

_ARCHIVES = {"busi": "Dataset_BUSI.zip", "cvc": "CVC-ClinicDB.zip"}
_IMAGES = {"busi": "ultrasound", "cvc": "colonoscopy"}


def show(results: Sequence[Result]) -> None:
    """Print the table of results, the reports' places and what can be done next."""
    console = Console(highlight=False, soft_wrap=True)
    console.print()
    console.print(_table(results))
    for result in results:
        console.print(_work(result))
        console.print(f"  report  {shown(result.report / 'report.html')}")
        console.print(f"  model   {shown(result.model)}{_standing(result)}")
    console.print("\nNext:")
    for command, meaning in next_commands(results[0]):
        console.print(f"  {command}", style="bold", markup=False)
        console.print(f"      {meaning}", style="dim", markup=False)


def next_commands(result: Result) -> list[tuple[str, str]]:
    """Return commands to go on with, each with what it does."""
    store = shown(state_dir(Path.cwd()) / "mlflow.db")
    other = "cvc" if result.dataset == "busi" else "busi"
    return [
        (f"xdg-open {shown(result.report / 'report.html')}", "look at the report"),
        (
            f"make run DATASET={other} RAW=/path/to/{_ARCHIVES[other]}",
            f"the same with real {_IMAGES[other]} images",
        ),
        (
            "MLFLOW_DISABLE_TELEMETRY=true .venv/bin/mlflow ui "
            f"--backend-store-uri sqlite:///{store}",
            "see runs and registered models",
        ),
        (
            f".venv/bin/python -m pipelines.rollback --dataset {result.dataset}",
            "put the previous champion back",
        ),
        ("make up", "start the Prefect and MLflow servers and a worker"),
    ]


def shown(path: Path) -> Path:
    """Return the path from here, where it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=None, pad_edge=False, title="On the test images")
    table.title_justify = "left"
    for column in _cells(results[0]):
        table.add_column(column, no_wrap=column != "false alarms")
    for result in results:
        table.add_row(*map(str, _cells(result).values()))
    return table


def _cells(result: Result) -> dict[str, Any]:
    """Return the row without the model, which has a line of its own."""
    return {name: cell for name, cell in result.row().items() if name != "model"}


def _standing(result: Result) -> str:
    return f"  ({result.standing})" if result.standing else ""


def _work(result: Result) -> str:
    cached = [stage for stage, state in result.stages.items() if state == "Cached"]
    if len(cached) == len(result.stages):
        return f"{result.dataset}: up to date, no stage had to run"
    ran = [stage for stage in result.stages if stage not in cached]
    text = f"{result.dataset}: ran {', '.join(ran)}"
    return f"{text}; cached: {', '.join(cached)}" if cached else text
