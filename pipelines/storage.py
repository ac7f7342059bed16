"""Where checkpoints of trainings under way lie: a folder, or s3://bucket/prefix.

KMUNET_STORAGE names it; without, it is .kmunet/ray. It changes no result.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kmunet.data.network import explain
from kmunet.errors import ConfigError
from kmunet.training.space import MARGIN, folder_bytes, free, no_space
from pipelines import profile
from pipelines.paths import state_dir

KEPT = 2  # the newest checkpoints; besides, the best
AT_ONCE = KEPT + 2  # with the one that is being written
# Of s3fs; keys and address are not among them, so that they are not sent to nodes.
OPTIONS: dict[str, Any] = {
    "use_listings_cache": False,  # other processes write there
    "config_kwargs": {
        "retries": {"max_attempts": 2, "mode": "standard"},
        "connect_timeout": 10,
        "response_checksum_validation": "when_required",
    },
}


@dataclass(frozen=True)
class Storage:
    """A folder's path, or a URL of S3, whose keys and address are AWS_* variables."""

    place: str

    @property
    def is_remote(self) -> bool:
        return self.place.startswith("s3://")

    def for_ray(self) -> tuple[str, Any]:
        """Path and pyarrow file system (None: the local one)."""
        if not self.is_remote:
            return self.place, None
        from pyarrow.fs import PyFileSystem

        from pipelines.patient_files import PatientFiles

        return self._path, PyFileSystem(PatientFiles(partial(_s3, OPTIONS)))

    def check(self, name: str, checkpoint: int) -> None:
        """Refuse what cannot end well, before anything starts.

        checkpoint: bytes of one. Raises SpaceError, or RemoteError where S3 does not
        take a file.
        """
        if self.is_remote:
            self._try_to_write()
            return
        needed = AT_ONCE * checkpoint + MARGIN - folder_bytes(Path(self.place, name))
        if free(Path(self.place)) < needed:
            raise no_space(Path(self.place), needed, f"{AT_ONCE} checkpoints")

    def remove(self, name: str) -> None:
        """Remove a run's checkpoints, where there are any."""
        if not self.is_remote:
            shutil.rmtree(Path(self.place, name), ignore_errors=True)
            return
        system, folder = _s3(), f"{self._path}/{name}"
        try:
            if system.exists(folder):
                system.rm(folder, recursive=True)
        except Exception as error:
            raise explain(error, f"{self.place}/{name}") from None

    @property
    def _path(self) -> str:
        return self.place.removeprefix("s3://").rstrip("/")

    def _try_to_write(self) -> None:
        system, probe = _s3(), f"{self._path}/.kmunet-probe"
        try:
            system.ls(self._path.partition("/")[0])  # else s3fs would make the bucket
            system.pipe_file(probe, b"")
            system.rm_file(probe)
        except Exception as error:
            raise explain(error, self.place) from None


def chosen_storage(root: Path) -> Storage:
    """What KMUNET_STORAGE names, or the checkout's own. Raises ConfigError."""
    place = os.environ.get("KMUNET_STORAGE", "").rstrip("/")
    if not place:
        return Storage(str(state_dir(root) / "ray"))
    scheme, separator, rest = place.partition("://")
    if not separator:
        return Storage(str(Path(place).absolute()))
    if scheme != "s3" or not rest:
        raise ConfigError(
            f"KMUNET_STORAGE is '{place}': set it to a folder or to s3://bucket/prefix"
        )
    return Storage(place)


def _s3(options: Mapping[str, Any] | None = None) -> Any:
    """By this process's environment, on whatever node it is."""
    import s3fs

    profile.apply()
    system = s3fs.S3FileSystem(skip_instance_cache=True, **(options or OPTIONS))
    system.retries = 1  # besides botocore's; PatientFiles tries for longer, and says so
    return system
