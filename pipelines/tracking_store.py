"""Which MLflow is used, its experiments, and errors where it does not answer.

The store is MLFLOW_TRACKING_URI, or SQLite under .kmunet.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from kmunet.data.locked import locked
from kmunet.errors import ServiceError, UnavailableError
from pipelines.address import shown

# What MLflow's pages show of it: trainings, not chats.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_AWAY = re.compile(r"request to .* failed with ((timeout )?exception|error code 5)")
_HURRIED = {  # seconds, tries
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


def choose_store(state: Path) -> None:
    """MLFLOW_TRACKING_URI, or else SQLite below `state`."""
    for logger in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if _is_embedded(state):
        state.mkdir(parents=True, exist_ok=True)
        _make_store(state)
        uri = _store(state)
    if shown(uri) != uri:  # MLflow prints the address of each run that ends
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    mlflow.set_tracking_uri(uri)  # the variable may have changed since the last time


def hurry() -> None:
    """Give up on a server that is away within seconds, not MLflow's own 10 minutes.

    For those who send again later; what the user has set stands.
    """
    for name, value in _HURRIED.items():
        os.environ.setdefault(name, value)


def experiment(client: MlflowClient, name: str, state: Path) -> str:
    """The id of an experiment, made where it is missing."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = (state / "mlartifacts").as_uri() if _is_embedded(state) else None
    try:
        return str(client.create_experiment(name, place, tags=_KIND))
    except MlflowException:  # another process was quicker
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def _store(state: Path) -> str:
    return f"sqlite:///{state / 'mlflow.db'}"


def _is_embedded(state: Path) -> bool:
    # set_tracking_uri sets the variable too: a second registry finds it set.
    return os.environ.get("MLFLOW_TRACKING_URI", "") in ("", _store(state))


def _make_store(state: Path) -> None:
    """Beside its place and then moved there: a kill leaves no half of a database."""
    place = state / "mlflow.db"
    if place.exists():
        return
    with locked(state / "mlflow.lock", lambda: None):
        if place.exists():
            return
        with tempfile.TemporaryDirectory(dir=state, prefix=".mlflow-") as folder:
            fresh = Path(folder) / "mlflow.db"
            MlflowClient(f"sqlite:///{fresh}").search_experiments()
            fresh.rename(place)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """What MLflow raises as a ServiceError; UnavailableError where it is away."""
    try:
        yield
    except (MlflowException, ConnectionError) as error:
        away = isinstance(error, ConnectionError) or is_away(str(error))
        kind = UnavailableError if away else ServiceError
        raise kind(
            f"MLflow at {shown(uri)}: {shown(str(error))}; check MLFLOW_TRACKING_URI "
            "and that the server runs (`make up` starts one)"
        ) from error


def is_away(said: str) -> bool:
    """Whether MLflow says that its server could not be asked, or failed itself: 5xx."""
    return bool(_AWAY.search(said))
