"""The results of a run as Prefect artifacts: a table, and a page that says more."""

from collections.abc import Sequence

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.results import Result

TABLE, PAGE = "kmunet-results", "kmunet-report"


def create(results: Sequence[Result]) -> None:
    """Write both artifacts for the flow run in progress."""
    create_table_artifact(
        table=[result.row() for result in results],
        key=TABLE,
        description="Scores on the test images, with confidence intervals",
    )
    create_markdown_artifact(
        markdown=page(results), key=PAGE, description="Results and where they lie"
    )


def page(results: Sequence[Result]) -> str:
    """Return the results as Markdown."""
    columns = list(results[0].row())
    rows = [list(map(str, result.row().values())) for result in results]
    lines = [_line(columns), _line(["---"] * len(columns)), *map(_line, rows)]
    places = [
        f"- **{r.dataset}**: report `{r.report / 'report.html'}`, model `{r.model}`; "
        + ", ".join(f"{stage} {state.lower()}" for stage, state in r.stages.items())
        for r in results
    ]
    return "\n".join(["# KM-UNet", "", *lines, "", *places, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
