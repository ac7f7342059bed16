"""A model belongs to the data and split that it was trained on."""

from collections.abc import Mapping
from typing import Any

from kmunet.data.store import PackedSet
from kmunet.errors import CheckpointError
from pipelines.paths import Paths
from pipelines.stage import short


def require_own_data(
    card: Mapping[str, Any], packed: PackedSet, paths: Paths, remedy: str
) -> None:
    """Raise CheckpointError unless model.json, `card`, is of these.

    Else an image that the model was trained on could be in the test split.
    """
    if card.get("data_fingerprint") != packed.fingerprint:
        raise CheckpointError(
            f"{short(paths.model)}: trained on other data than {short(paths.prepared)} "
            f"and {short(paths.splits)} hold now; {remedy}"
        )
