"""Later looks at a registered version in MLflow: what was known of it, what is now."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
import mlflow.data
import numpy as np

from pipelines.inputs import INPUTS
from pipelines.tracking import ModelVersion, Registry
from pipelines.tracking_place import artifact, storing
from pipelines.tracking_store import answering


@dataclass(frozen=True)
class Known:
    """Of a version's own run."""

    metrics: Mapping[str, float]
    params: Mapping[str, str]
    inputs: str  # inputs.csv; empty where it was not recorded
    size: int | None  # side of the images that the model sees; None: not recorded


def known(registry: Registry, version: ModelVersion) -> Known:
    """What was recorded when the version was registered."""
    with answering(registry.uri):
        data = registry.client.get_run(version.run_id).data
        inputs = artifact(registry.client, version.run_id, INPUTS) or ""
        card = artifact(registry.client, version.run_id, "checkpoint/model.json")
        # The parameter train.size is null where it was the first of the sizes then.
        size = json.loads(card)["input"]["size"] if card else None
        return Known(data.metrics, data.params, inputs, size)


def log_look(
    registry: Registry,
    version: ModelVersion,
    answer: Mapping[str, Any],
    metrics: Mapping[str, float],
    data: tuple[str, tuple[int, ...]],
) -> str:
    """A run of its own in the model's experiment, tied to the version; its id.

    data: fingerprint and shape of the prepared set.
    """
    fingerprint, shape = data
    tags = {
        "evaluation_of": f"models:/{registry.name}/{version.version}",
        "evaluated_run": str(version.run_id),
        "drift": str(answer["drift"]).lower(),
        "data_fingerprint": fingerprint,
    }
    name = f"look at version {version.version}"
    with (
        answering(registry.uri),
        storing(registry.client, registry.experiment),
        mlflow.start_run(run_name=name, tags=tags) as run,
    ):
        mlflow.log_metrics(dict(metrics))
        values = np.broadcast_to(np.uint8(0), shape)  # takes no memory
        mlflow.log_input(
            mlflow.data.from_numpy(values, name=registry.name, digest=fingerprint[:32]),
            context="evaluation",
        )
        text = json.dumps(answer, indent=1, sort_keys=True)
        mlflow.log_text(text + "\n", "answer.json")
        registry.tag(version.version, "last_look", run.info.run_id)
        return str(run.info.run_id)
