"""A run's figures as rows, each with its ratios to ours and its shares of limits."""

from collections.abc import Sequence
from typing import Any

from benchmarks.case import Case
from benchmarks.limits import rates

Row = dict[str, Any]


def clock(device: str) -> str:
    """CPU seconds of all threads on a CPU: other work there disturbs them least."""
    return "gpu" if device == "cuda" else "cpu"


def group_rows(cases: Sequence[Case], results: Sequence[Row]) -> list[Row]:
    """Rows of a group; the first case is what the others are a multiple of."""
    ours = results[0]
    return [
        {**_about(case), **result, **_ratios(case, result, ours)}
        for case, result in zip(cases, results, strict=True)
    ]


def best_rates(measured: Sequence[Row], device: str) -> dict[str, float]:
    """The highest rates seen in a run: what disturbs only ever lowers them."""
    all_rates = [rates(result, clock(device)) for result in measured]
    return {name: max(found[name] for found in all_rates) for name in all_rates[0]}


def add_shares(row: Row, limits: dict[str, float], device: str) -> None:
    """Share of the exp, multiply-add and bandwidth limit, 1 being all of it."""
    if "failed" in row:
        return
    seconds = row[clock(device)]
    product = limits.get("fma", limits["product"])
    if row["bf16"]:
        product = max(limits["product_bf16"], product)
    exp = limits.get("exp", float("inf"))  # not measured: no share
    row["shares"] = {
        "exp": row["exps"] / seconds / exp,
        "fma": row["flop"] / seconds / product,
        "bandwidth": row["bytes"] / seconds / limits["bandwidth"],
    }
    if row["part"] == "scan":  # half of the exps in each direction
        for name, times in row["phases"].items():
            part = row["exps"] / 2 / times[clock(device)] / exp
            row["shares"][f"exp {name}"] = part


def find(
    rows: Sequence[Row], part: str, peer: str, size: int, batch: int
) -> Row | None:
    """The row of one case, if it was in the run; it may have failed."""
    wanted = (part, peer, size, batch)
    for row in rows:
        if (row["part"], row["peer"], row["size"], row["batch"]) == wanted:
            return row
    return None


def _about(case: Case) -> Row:
    place = {"part": case.part, "size": case.size, "batch": case.batch}
    how = {"bf16": case.bf16, "deterministic": case.deterministic}
    return place | {"peer": case.peer, **how}


def _ratios(case: Case, result: Row, ours: Row) -> Row:
    if "failed" in ours:
        return {}
    name, found = clock(case.device), {}
    if name in result:
        found["times_ours"] = result[name] / ours[name]
        found["memory_times_ours"] = result["working"] / max(1, ours["working"])
    elif "at_least" in result and name == "cpu":  # stopped: it needs more than that
        found["times_ours_at_least"] = result["at_least"]["cpu"] / ours["cpu"]
    return found
