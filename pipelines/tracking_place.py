"""Where an experiment's artifacts go, which may be a disk of another machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from kmunet.errors import ServiceError, in_one_line
from pipelines.address import shown


@contextmanager
def storing(client: MlflowClient, experiment: str) -> Iterator[None]:
    """What the disk refuses to which its artifacts go, as a ServiceError."""
    place = str(client.get_experiment(experiment).artifact_location)
    try:
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
