"""PostgreSQL from its package's programs, with a data folder of its own.

It refuses to run as root: root starts it as the user `postgres`, or `nobody`. There is
no password of its superuser: over the network he cannot come in.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from infra.cluster.place import Place, write_private
from infra.cluster.secrets import Secrets
from infra.cluster.settings import Settings
from infra.local.processes import identity
from infra.local.services import Service
from kmunet.errors import ServiceError

ROLES = ("prefect", "mlflow")  # each with a database of the same name
PACKAGED = Path("/usr/lib/postgresql")
# Only servers of this machine, and each role to its own database.
ACCESS = "".join(f"host {role} {role} samehost scram-sha-256\n" for role in ROLES)


def programs(data: Path) -> Path:
    """The folder of `postgres`, of the version that made `data`. ServiceError."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else []
    found += sorted(PACKAGED.glob("*/bin"), key=_number, reverse=True)
    found = [folder for folder in found if (folder / "initdb").exists()]
    if not found:
        raise ServiceError(
            "PostgreSQL is missing: `apt-get install postgresql` (only its programs "
            "are used: the server that Debian sets up may stay off)"
        )
    version = _version(data)
    for folder in found:
        if not version or folder.parent.name == version:
            return folder
    if len(found) == 1 and found[0].parent.parent != PACKAGED:
        return found[0]  # not Debian's: the server itself will say
    raise ServiceError(
        f"{data} is of PostgreSQL {version}: `apt-get install postgresql-{version}`"
    )


def initialise(settings: Settings, secrets: Secrets) -> None:
    """Make data folder, roles and databases, whole or not at all. ServiceError."""
    data = Path(settings.data)
    if data.exists():
        return
    user, bin_ = owner(data), programs(data)
    fresh = data.with_name(f"{data.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o700)
    if user is not None:
        os.chown(fresh, user, pwd.getpwuid(user).pw_gid)
        _check_reach(fresh, user)
    _call(
        [str(bin_ / "initdb"), "-D", str(fresh), "-U", "postgres", "-E", "UTF8",
         "--locale=C", "--auth=reject", "--no-instructions"], user,
    )  # fmt: skip
    (fresh / "pg_hba.conf").write_text(ACCESS, encoding="ascii")
    passwords = (secrets.postgres_prefect, secrets.postgres_mlflow)
    lines = ["SET log_min_error_statement = panic"]
    for role, password in zip(ROLES, passwords, strict=True):
        lines.append(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        lines.append(f"CREATE DATABASE {role} OWNER {role}")
    single = [str(bin_ / "postgres"), "--single", "-D", str(fresh), "postgres"]
    _call(single, user, "".join(f"{line};\n" for line in lines))
    fresh.rename(data)


def write_passwords(place: Place, settings: Settings, secrets: Secrets) -> None:
    """One file a role: none needs to know another's."""
    passwords = (secrets.postgres_prefect, secrets.postgres_mlflow)
    for role, password in zip(ROLES, passwords, strict=True):
        host, port = settings.host, settings.ports["postgres"]
        line = f"{host}:{port}:{role}:{role}:{password}\n"
        write_private(place.pgpass(role), line)


def _forget_dead(data: Path) -> None:
    """Remove the lock of a killed server that nobody has buried yet.

    Its process number still exists, which PostgreSQL takes for a running server. It
    looks itself for other processes that still have the data's shared memory.
    """
    lock = data / "postmaster.pid"
    with suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
        pid = int(lock.read_text(encoding="ascii").splitlines()[0])
        if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            lock.unlink()


def uri(settings: Settings, role: str, driver: str = "postgresql") -> str:
    """Of a role's database; the password is in PGPASSFILE."""
    return f"{driver}://{role}@{settings.at('postgres')}/{role}"


def service(settings: Settings) -> Service:
    """The server."""
    data, port = Path(settings.data), str(settings.ports["postgres"])
    bin_, user = programs(data), owner(data)
    if user is not None:
        _check_reach(data, user)
    _forget_dead(data)
    asking = [str(bin_ / "pg_isready"), "-q", "-h", settings.host, "-p", port]
    return Service(
        name="postgres",
        command=(
            *(str(bin_ / "postgres"), "-D", str(data), "-h", settings.host),
            *("-p", port, "-k", ""),
        ),
        env={"TZ": "UTC"},
        ready=lambda: subprocess.run(asking, check=False).returncode == 0,
        port=settings.ports["postgres"],
        option="--postgres-port",
        host=settings.host,
        user=user,
        ends_by=signal.SIGINT,  # SIGTERM would wait until every client has left
    )


def owner(data: Path) -> int | None:
    """Who runs the server, if not we: whoever owns the data. ServiceError."""
    if os.geteuid():
        return None
    if data.exists() and (uid := data.stat().st_uid):
        return uid
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise ServiceError(
        "PostgreSQL refuses to run as root: `adduser --system postgres`, or run as "
        "another user"
    )


def _check_reach(data: Path, user: int) -> None:
    tried = subprocess.run(
        ["test", "-x", str(data)], check=False, cwd="/", **identity(user)
    )
    if tried.returncode:
        name = pwd.getpwuid(user).pw_name
        raise ServiceError(
            f"{data}: PostgreSQL runs as {name}, who cannot reach it: let others pass "
            "(`chmod o+x`) through the folders above, or give --postgres-data FOLDER"
        )


def _call(command: list[str], user: int | None, text: str = "") -> None:
    """Run a program of PostgreSQL. Raises ServiceError with its last line."""
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, cwd="/",
        **identity(user),
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    failed = [line for line in lines if re.search(r"\b(ERROR|FATAL|PANIC):", line)]
    if done.returncode or failed:
        what = (failed or lines or [f"exit code {done.returncode}"])[-1]
        raise ServiceError(f"{Path(command[0]).name}: {what}")


def _version(data: Path) -> str:
    try:
        return (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _number(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0.0
