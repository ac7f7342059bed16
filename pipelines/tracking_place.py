"""Where an experiment's artifacts go: S3, or what may be a disk of another machine."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from kmunet.data.network import explain, is_of_network
from kmunet.errors import ServiceError, UnavailableError, in_one_line
from pipelines.address import shown


@contextmanager
def reaching(client: MlflowClient, experiment: str) -> Iterator[None]:
    """What S3 or a server refuses of its artifacts, as a ServiceError; as an
    UnavailableError where waiting may help."""
    try:
        yield
    except Exception as error:
        if not is_of_network(error):
            raise
        found = client.get_experiment(experiment)
        told = explain(error, shown(str(found.artifact_location)))
        kind = UnavailableError if told.transient else ServiceError
        raise kind(f"artifacts of {found.name}: {told}") from error


def artifact(client: MlflowClient, run_id: str, name: str) -> str | None:
    """A text among a run's artifacts; None where it was not recorded."""
    place = client.get_run(run_id).info.experiment_id
    with reaching(client, place), tempfile.TemporaryDirectory() as folder:
        parent = name.rpartition("/")[0] or None
        if name not in {item.path for item in client.list_artifacts(run_id, parent)}:
            return None
        path = client.download_artifacts(run_id, name, folder)
        return Path(path).read_text(encoding="utf-8")


@contextmanager
def storing(client: MlflowClient, experiment: str) -> Iterator[None]:
    """What the place refuses to which its artifacts go, as a ServiceError."""
    place = str(client.get_experiment(experiment).artifact_location)
    try:
        with reaching(client, experiment):
            yield
    except OSError as error:
        if not is_local_uri(place) or not _concerns(error, place):
            raise
        raise ServiceError(
            f"artifacts go to {shown(place)}, which this machine cannot write "
            f"({in_one_line(error)}): serve them (`mlflow server --serve-artifacts`) "
            "or use s3://, under another register.prefix: an experiment keeps its place"
        ) from error


def _concerns(error: OSError, place: str) -> bool:
    """Unless it names a file elsewhere: what is sent may be missing too."""
    if not isinstance(error.filename, str):
        return True
    folder, named = Path(local_file_uri_to_path(place)), Path(error.filename)
    return named.is_relative_to(folder) or folder.is_relative_to(named)
