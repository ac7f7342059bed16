"""A fresh clone made ready to run: environment, DVC's cache and remote.

A worker elsewhere has the packages, not our checkout: the clone gets the environment
that runs the flow, if it is the commit's.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from flows.pipeline import dvc
from flows.repository import toplevel
from kmunet.data.remote import default_cache
from kmunet.errors import ConfigError, ServiceError
from pipelines import packages, profile

REMOTE = "kmunet-profile"


def settle(log: Callable[[str], None]) -> None:
    """Make the checkout around the current directory one whose results are shared.

    One that has an environment keeps it, with its cache. Raises ConfigError: packages
    of other versions, no DVC remote; ServiceError: no MLflow server.
    """
    root = toplevel(Path.cwd())
    if not (root / ".venv" / "bin" / "python").exists():
        _check_packages(root)
        _check_mlflow()
        (root / ".venv").symlink_to(Path(sys.prefix).resolve())
        _keep_cache(root)
        log(f"{root}: a fresh clone; its environment is {sys.prefix}")
    _choose_remote(root)


def _check_packages(root: Path) -> None:
    wrong = [f"{name} (missing)" for name in packages.missing(root)]
    wrong += packages.others(root)
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ConfigError(
            f"{sys.prefix}: not the environment of this commit: {', '.join(wrong[:5])}"
            f"{more}; on the worker's machine, `pip install -c constraints.txt` what "
            "pyproject.toml needs, or take a commit that fits"
        )


def _check_mlflow() -> None:
    import os

    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ServiceError(
            "MLFLOW_TRACKING_URI is not set: what this clone registers would go with "
            "it; set it on the worker, or `mlflow` in a profile"
        )


def _keep_cache(root: Path) -> None:
    """DVC's cache beside the clone, which goes when the run ends."""
    settings = {
        "cache.dir": str(default_cache() / "dvc"),
        "cache.type": "reflink,hardlink,symlink",
        "core.site_cache_dir": str(root / ".dvc" / "tmp" / "site"),
    }
    for key, value in settings.items():
        dvc(root, "config", "--local", key, value)


def _choose_remote(root: Path) -> None:
    """The repository's default remote, else the profile's."""
    from dvc.config import Config

    config = Config(str(root / ".dvc"))
    if config["core"].get("remote"):
        return
    url = profile.chosen().dvc_remote
    if not url:
        raise ConfigError(
            "share: no DVC remote: `dvc remote add -d store s3://bucket/prefix` and "
            "commit .dvc/config, or set `dvc_remote` in the profile"
        )
    dvc(root, "remote", "add", "--local", "--force", "--default", REMOTE, url)
