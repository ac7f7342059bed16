"""Where a stack keeps what: all of it below .kmunet/cluster of its checkout."""

import os
from dataclasses import dataclass
from pathlib import Path

BUCKETS = ("kmunet-dvc", "kmunet-mlflow", "kmunet-checkpoints", "kmunet-raw")


@dataclass(frozen=True)
class Place:
    """The folders and files of the stack of the checkout `root`."""

    root: Path

    @property
    def folder(self) -> Path:
        """Records and logs of its processes too."""
        return self.root / ".kmunet" / "cluster"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets.json"

    @property
    def settings(self) -> Path:
        """Addresses and ports."""
        return self.folder / "settings.json"

    @property
    def profiles(self) -> Path:
        """What KMUNET_PROFILES names."""
        return self.folder / "profiles.yaml"

    @property
    def env(self) -> Path:
        """To be sourced by clients."""
        return self.folder / "env.sh"

    @property
    def buckets(self) -> Path:
        """The S3 server's disk."""
        return self.folder / "s3"

    @property
    def postgres(self) -> Path:
        """The databases, unless the settings have another folder."""
        return self.folder / "postgres"

    @property
    def ray_token(self) -> Path:
        return self.folder / "ray-token"

    def pgpass(self, role: str) -> Path:
        """The password of a database's role, as PGPASSFILE has it."""
        return self.folder / f"pgpass-{role}"

    def node(self, number: int) -> Path:
        """The disk of one Ray node."""
        return self.folder / "nodes" / str(number)

    def make(self) -> None:
        """Make the folders; nobody else may look into them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for bucket in BUCKETS:
            (self.buckets / bucket).mkdir(parents=True, exist_ok=True)
        self.buckets.chmod(0o700)


def write_private(file: Path, text: str) -> None:
    """Write a whole file that only its owner can read."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as out:
        out.write(text)
    fresh.rename(file)
