"""Where a result comes from, as headed tables of names and values for the report."""

from collections.abc import Mapping
from typing import Any

Facts = dict[str, dict[str, Any]]


def run_facts(
    metrics: Mapping[str, Any],
    spec: Mapping[str, Any],
    params: Mapping[str, Any],
    manifest: Mapping[str, Any],
) -> Facts:
    """Headed tables of metrics.json, model.json, params.yaml, and a packed set."""
    counts = manifest["counts"].items()
    return {
        "Data": {
            "data set": metrics["dataset"],
            "fingerprint": metrics["data_fingerprint"],
            "source": manifest["source"],
            "size, pixels": manifest["size"],
            **{f"{split} images": _images(values) for split, values in counts},
            **_named("split", manifest["split"]),
            **({"notes": manifest["warnings"]} if manifest["warnings"] else {}),
        },
        "Model": {
            **_named("model", spec["model"]),
            "parameters": metrics["model"]["parameters"],
            **_named("input", spec["input"]),
            **_named("best", spec.get("best", {})),
            "weights, SHA-256": metrics["checkpoint"],
        },
        "Training": {
            **_named("train", params["train"]),
            **_named("augment", {t["name"]: t["args"] for t in params["augment"]}),
        },
        "Evaluation": _named("evaluate", params["evaluate"]),
    }


def _images(counts: Mapping[str, Any]) -> str:
    return f"{counts['images']}, {counts['empty']} of them without a lesion"


def _named(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for key, value in values.items()}
