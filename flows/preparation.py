"""A data set made ready: the stages up to its split, for flows that train no model."""

from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State

from flows.limits import Limits
from flows.pipeline import addresses
from flows.stages import run_stage

NEEDED = ("prepare", "split")  # and what makes the raw data


def prepare(root: Path, dataset: str, limits: Limits) -> State[Any]:
    """Run what is not up to date; the state of the last stage or of one that failed."""
    wanted = [
        address
        for address in addresses(root, dataset, given=False)
        if "@" not in address or address.partition("@")[0] in NEEDED
    ]
    for address in wanted:
        state = run_stage(address, root, force=False, limit=limits.left())
        if not state.is_completed():
            break
    return state
