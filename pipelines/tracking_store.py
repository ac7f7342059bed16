"""Which MLflow is used, its experiments and runs, and errors where it is away.

The store is MLFLOW_TRACKING_URI, or SQLite under .kmunet.
"""

import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Param
from mlflow.exceptions import MlflowException

from kmunet.data.locked import locked
from kmunet.errors import ServiceError, UnavailableError
from pipelines.address import shown

# What MLflow's pages show of it: trainings, not chats.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_AWAY = re.compile(r"request to .* failed with ((timeout )?exception|error code 5)")
_PARAMS = 100  # that MLflow takes at once
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

    For those who send again later, or only ask; what the user has set stands.
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


def open_run(
    client: MlflowClient,
    place: str,
    asked: str,
    params: Mapping[str, Any],
    **made: Any,
) -> str:
    """The newest run of the experiment that `asked` finds, running again; or one made.

    What it lacks of its parameters is logged: an earlier try may have made it and then
    failed. made: what `create_run` takes.
    """
    newest = ["attributes.start_time DESC"]
    found = client.search_runs([place], asked, max_results=1, order_by=newest)
    run = found[0] if found else client.create_run(place, **made)
    run_id = str(run.info.run_id)
    if found:
        client.update_run(run_id, status="RUNNING")
    log_params(client, run_id, params)
    return run_id


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, Any]) -> None:
    """Those that the run has not."""
    known = client.get_run(run_id).data.params
    items = [Param(k, str(v)) for k, v in params.items() if k not in known]
    for start in range(0, len(items), _PARAMS):
        client.log_batch(run_id, params=items[start : start + _PARAMS])


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
