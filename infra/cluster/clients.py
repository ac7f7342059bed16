"""What a client of the stack needs: variables, as a file to source, and a profile."""

import os
import shlex
from pathlib import Path

import yaml

from infra.cluster.place import Place, write_private
from infra.cluster.secrets import USER, Secrets
from infra.cluster.settings import Settings
from infra.local.http import basic
from pipelines.profile import VARIABLES
from pipelines.quiet import silence


def environment(place: Place, settings: Settings, secrets: Secrets) -> dict[str, str]:
    """Profile and secrets, as a user of any cluster sets them."""
    return {
        "KMUNET_PROFILE": "cluster",
        "KMUNET_PROFILES": str(place.profiles),
        **settings.profile().variables(),
        **aws(secrets),
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": secrets.mlflow_password,
        "PREFECT_API_AUTH_STRING": prefect_login(secrets),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(place.ray_token),
    }


def aws(secrets: Secrets) -> dict[str, str]:
    """The S3 server's keys; no question to Amazon's machines."""
    return {
        "AWS_ACCESS_KEY_ID": secrets.s3_key,
        "AWS_SECRET_ACCESS_KEY": secrets.s3_secret,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def worker_environment(
    place: Place, settings: Settings, secrets: Secrets
) -> dict[str, str]:
    """Of the Prefect worker and its flow runs."""
    path = [str(place.root), os.environ.get("PYTHONPATH")]
    return environment(place, settings, secrets) | {
        "KMUNET_ROOT": str(place.root),
        "NO_PROXY": _no_proxy(settings),
        "PREFECT_HOME": str(place.folder / "prefect-worker"),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


def prefect_login(secrets: Secrets) -> str:
    """What PREFECT_API_AUTH_STRING is, and the pages ask for."""
    return f"{USER}:{secrets.prefect_password}"


def prefect_headers(secrets: Secrets) -> dict[str, str]:
    """Of requests that do not go through Prefect's client."""
    return basic(prefect_login(secrets))


def write(place: Place, settings: Settings, secrets: Secrets) -> None:
    """The profiles' file, the token's, and the one to source."""
    known = settings.profile().model_dump(exclude_none=True)
    head = "# Written by `python -m infra.cluster up`; no secrets here.\n"
    text = yaml.safe_dump({"local": {}, "cluster": known}, sort_keys=False)
    place.profiles.write_text(head + text, encoding="utf-8")
    write_private(place.ray_token, secrets.ray_token)
    values = environment(place, settings, secrets)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines.append(
        f"export NO_PROXY={shlex.quote(settings.host)}${{NO_PROXY:+,$NO_PROXY}}"
    )
    write_private(place.env, "\n".join(lines) + "\n")


def source_line(place: Place) -> str:
    """What a user types."""
    here = Path.cwd()
    file = place.env
    return f"source {file.relative_to(here) if file.is_relative_to(here) else file}"


def forget_others() -> None:
    """Take other services' addresses and keys out of this process's environment."""
    others = ("AWS_", "DVC_", "KMUNET_", "MLFLOW_", "PG", "PREFECT_", "RAY_", "RCLONE_")
    for name in [n for n in os.environ if n.startswith(others) or n in _PROFILE]:
        del os.environ[name]
    silence()


_PROFILE = set(VARIABLES.values())


def _no_proxy(settings: Settings) -> str:
    return ",".join(filter(None, [settings.host, os.environ.get("NO_PROXY")]))
