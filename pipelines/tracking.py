"""What happened, and which model is in use: MLflow tracking and registry.

With `tracking_*.py`, and `pyfunc.py` and `apply.py`, which run inside a registered
model's consumer, this is all that imports mlflow.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import mlflow.data
import mlflow.pyfunc
import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from numpy.typing import NDArray

from kmunet.data.rows import RowFile
from kmunet.data.shards import Shards
from kmunet.errors import ServiceError, UnavailableError
from pipelines.address import shown
from pipelines.paths import state_dir
from pipelines.tracking_place import artifact, storing
from pipelines.tracking_store import (
    answering,
    choose_store,
    experiment,
    hurry,
    is_away,
)

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "LEARNT_FROM",
    "Catalogue",
    "Found",
    "ModelVersion",
    "Record",
    "Registry",
]

CHAMPION, CHALLENGER = "champion", "challenger"
LINEAGE, LEARNT_FROM = "lineage.json", "learnt_from.txt"
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Record:
    """What one run leaves behind in MLflow."""

    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    history: list[dict[str, float]]
    tags: Mapping[str, str]
    shape: tuple[int, ...]  # of all images
    fingerprint: str
    folders: Mapping[str, Path] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    lineage: Mapping[str, Any] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)  # artifacts by name


class Registry:
    """The models of one data set: versions, and the aliases champion, challenger.

    Methods raise ServiceError; where MLflow is away, UnavailableError.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.state, self.name = state_dir(root), name
        choose_store(self.state)
        self.uri: str = mlflow.get_tracking_uri()
        self.client = MlflowClient()
        with answering(self.uri):
            self._open()

    def find(self, tag: str, value: str) -> ModelVersion | None:
        """Return the version that carries the tag, or None."""
        with answering(self.uri):
            found = self.client.search_model_versions(f"name='{self.name}'")
        return next((v for v in found if v.tags.get(tag) == value), None)

    def alias(self, alias: str) -> ModelVersion | None:
        """Return the version behind an alias; None where no version has it."""
        with answering(self.uri):
            aliases = self.client.get_registered_model(self.name).aliases
        return self.get(str(aliases[alias])) if alias in aliases else None

    def set_alias(self, alias: str, version: str) -> None:
        with answering(self.uri):
            self.client.set_registered_model_alias(self.name, alias, version)

    def tag(self, version: str, key: str, value: str) -> None:
        with answering(self.uri):
            self.client.set_model_version_tag(self.name, version, key, value)

    def get(self, version: str) -> ModelVersion:
        with answering(self.uri):
            return self.client.get_model_version(self.name, version)

    def params(self, version: ModelVersion) -> Mapping[str, str]:
        """Those that it was registered with, by dotted key."""
        with answering(self.uri):
            found: Mapping[str, str] = self.client.get_run(version.run_id).data.params
            return found

    def learnt_from(self, version: ModelVersion) -> frozenset[str]:
        """The images of its training and selection; none where that is not recorded."""
        with answering(self.uri):
            found = artifact(self.client, version.run_id, LEARNT_FROM)
            return frozenset((found or "").split())

    def add(self, record: Record, model: Path) -> ModelVersion:
        """Log a run with all its evidence and make a version of its model.

        It is the run of the training that made these weights, where there is one that
        is no version's yet and has the same parameters; else a new one.
        """
        stored = storing(self.client, self.experiment)
        with answering(self.uri), stored, self._run(record) as run:
            _log(record, self._epochs(run.info.run_id))
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(HERE / "pyfunc.py"),
                artifacts={"model": str(model)},
                code_paths=[str(HERE.parent / "kmunet")],
                pip_requirements=requirements(record.params.get("model.name", "")),
            )
            return self.client.create_model_version(
                self.name,
                source=info.model_uri,
                run_id=run.info.run_id,
                model_id=info.model_id,
                tags=dict(record.tags),
            )

    def _run(self, record: Record) -> Any:
        weights = record.tags["checkpoint_sha256"]
        found = self.client.search_runs(
            [self.experiment],
            f"tags.checkpoint_sha256 = '{weights}' and tags.training != ''",
            order_by=["attributes.start_time DESC"],
        )
        params = {key: str(value) for key, value in record.params.items()}
        for run in found:
            had = run.data.params
            if "identity" not in run.data.tags and had.items() <= params.items():
                return mlflow.start_run(run_id=run.info.run_id)
        tags = {"training_run": found[0].info.run_id} if found else {}
        return mlflow.start_run(tags=tags)

    def _epochs(self, run_id: str) -> set[int]:
        """Those whose curves the run has already."""
        return {m.step for m in self.client.get_metric_history(run_id, "val_iou")}

    @contextmanager
    def apply(
        self, version: str, images: Shards, rows: Sequence[int]
    ) -> Iterator[NDArray[np.float32]]:
        """Yield probabilities (N, ...) of a version, run with its own code.

        They are mapped from a file, which goes when the block ends.
        """
        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder, "images.npy"), Path(folder, "out.npy")
            with RowFile(source, (len(rows), *images.shape[1:])) as file:
                for place, row in enumerate(rows):
                    file.write(place, images[row])
            done = subprocess.run(
                [
                    sys.executable,
                    str(HERE / "apply.py"),
                    f"models:/{self.name}/{version}",
                    str(source),
                    str(out),
                ],
                cwd=folder,
                env={**os.environ, "MLFLOW_TRACKING_URI": self.uri, "PYTHONPATH": ""},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise self._unapplied(version, done)
            yield np.load(out, mmap_mode="r", allow_pickle=False)

    def _unapplied(
        self, version: str, done: subprocess.CompletedProcess[str]
    ) -> ServiceError:
        code = f"exit code {done.returncode}"  # and no word, where it was killed
        said = (done.stderr.strip().splitlines() or [code])[-1]
        kind = UnavailableError if is_away(said) else ServiceError
        return kind(f"models:/{self.name}/{version} cannot be applied: {shown(said)}")

    def _open(self) -> None:
        """Make the experiment and the registered model where they are missing."""
        self.experiment = experiment(self.client, self.name, self.state)
        mlflow.set_experiment(self.name)
        if not self.client.search_registered_models(f"name='{self.name}'"):
            self.client.create_registered_model(self.name)


@dataclass(frozen=True)
class Found:
    """A version as it is recorded; `lineage` is empty where none was logged."""

    name: str
    version: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    run_id: str
    uri: str  # of the MLflow that has it, as it is shown
    lineage: Mapping[str, Any]


class Catalogue:
    """All registered models, to read: nothing is made that is not there."""

    def __init__(self, root: Path) -> None:
        state = state_dir(root)
        own = state / "mlflow.db"
        if not os.environ.get("MLFLOW_TRACKING_URI") and not own.exists():
            raise ServiceError(
                f"no MLflow here ({own}: no such file); run in the checkout that "
                "registered the model, or set MLFLOW_TRACKING_URI to its server"
            )
        choose_store(state)
        hurry()  # somebody waits for the answer
        self.uri: str = mlflow.get_tracking_uri()
        self.client = MlflowClient()

    def find(self, name: str, version: str = "", alias: str = "") -> Found:
        """The version with this number or alias. ServiceError says what there is."""
        with answering(self.uri):
            versions = self.client.search_model_versions(f"name='{name}'")
            if not versions:
                raise ServiceError(
                    f"'{name}' has no versions in MLflow at {shown(self.uri)}; there "
                    f"are the models {self._names()}"
                )
            aliases = self.client.get_registered_model(name).aliases
            number = str(aliases.get(alias, "")) if alias else version
            for found in versions:
                if str(found.version) == number:
                    return self._describe(found, aliases)
        numbers = ", ".join(map(str, sorted(int(v.version) for v in versions)))
        named = ", ".join(f"{key} ({aliases[key]})" for key in sorted(aliases))
        raise ServiceError(
            f"'{name}' has no {f'alias {alias}' if alias else f'version {version}'}: "
            f"there are versions {numbers} and aliases {named or '(none)'}"
        )

    def _describe(self, version: ModelVersion, aliases: Mapping[str, Any]) -> Found:
        number = str(version.version)
        return Found(
            name=version.name,
            version=number,
            aliases=tuple(sorted(a for a, n in aliases.items() if str(n) == number)),
            tags=dict(version.tags),
            run_id=version.run_id,
            uri=shown(self.uri),
            lineage=self._lineage(version.run_id),
        )

    def _lineage(self, run_id: str) -> dict[str, Any]:
        text = artifact(self.client, run_id, LINEAGE) if run_id else None
        found: dict[str, Any] = json.loads(text or "{}")
        return found

    def _names(self) -> str:
        names = sorted(model.name for model in self.client.search_registered_models())
        return ", ".join(names) or "(none)"


def _log(record: Record, logged: set[int]) -> None:
    mlflow.log_params({key: str(value) for key, value in record.params.items()})
    mlflow.log_metrics(dict(record.metrics))
    for row in record.history:
        if int(row["epoch"]) in logged:
            continue
        values = {key: value for key, value in row.items() if key != "epoch"}
        mlflow.log_metrics(values, step=int(row["epoch"]))
    mlflow.set_tags(dict(record.tags))
    shape = np.broadcast_to(np.uint8(0), record.shape)  # takes no memory
    data = mlflow.data.from_numpy(
        shape, name=record.tags["dataset"], digest=record.fingerprint[:32]
    )
    mlflow.log_input(data, context="training")
    for place, folder in record.folders.items():
        mlflow.log_artifacts(str(folder), place)
    for file in record.files:
        mlflow.log_artifact(str(file))
    mlflow.log_text(environment(), "environment.txt")
    for name, text in record.texts.items():
        mlflow.log_text(text, name)
    if record.lineage:
        text = json.dumps(record.lineage, indent=1, sort_keys=True)
        mlflow.log_text(text + "\n", LINEAGE)


def environment() -> str:
    """Return the installed packages, one `name==version` a line."""
    from importlib.metadata import distributions

    lines = {f"{d.metadata['Name']}=={d.version}" for d in distributions()}
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def requirements(model: str) -> list[str]:
    """What a consumer needs: the registered model's own code imports no more."""
    from kmunet.models.registry import BASELINES

    names = ["mlflow", "numpy", "opencv-python-headless", "pillow", "safetensors"]
    names.append("tifffile")  # reads what Pillow refuses
    if model in BASELINES:
        names.append("monai")
    if model == "swin_unetr":
        names.append("einops")
    pinned = [f"{name}=={installed(name)}" for name in names]
    return [*pinned, f"torch=={installed('torch').split('+')[0]}"]
