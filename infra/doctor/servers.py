"""The MLflow and Prefect servers, or their embedded stores; the servers' clocks."""

import os
import re
import sqlite3
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from infra.doctor.check import Finding, error, ok, warning
from infra.doctor.request import Answer, ask
from infra.local.http import basic
from infra.local.services import POOL
from kmunet.errors import ServiceError
from pipelines.address import shown

SKEW = 30.0  # seconds; S3 refuses at 900
START = "start it (`make up` starts one here)"
REVISION = re.compile(r"^(down_)?revision\s*=\s*[\"']([0-9a-f]+)", re.MULTILINE)


def mlflow(state: Path) -> Iterator[Finding]:
    """The server that MLFLOW_TRACKING_URI names, or the database it or we keep."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        yield _mlflow_server(uri.rstrip("/"))
    elif not uri or uri.startswith("sqlite:///"):
        yield _database(Path(uri.removeprefix("sqlite:///") or state / "mlflow.db"))
    else:
        remedy = "set it to the address of an MLflow server, as in http://mlflow:5000"
        text = f"MLFLOW_TRACKING_URI is '{shown(uri)}': not checked"
        yield warning("mlflow", text, remedy)


def prefect() -> Iterator[Finding]:
    """The server that PREFECT_API_URL names, its version, and a worker of the pool."""
    api = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not api:
        yield ok("prefect", "embedded: each run starts a server for its own time")
        return
    at, headers = shown(api), _prefect_headers()
    try:
        found = ask(f"{api}/admin/version", headers)
        if found.status in (401, 403):
            remedy = "set PREFECT_API_AUTH_STRING=user:password, or PREFECT_API_KEY"
            yield error("prefect", f"{at}: access denied ({found.status})", remedy)
        elif found.status != 200:
            remedy = "PREFECT_API_URL ends in /api, as in http://prefect:4200/api"
            yield error("prefect", f"{at}: answers {found.status}", remedy)
        else:
            yield _compared("prefect", at, str(found.json()))
            yield _worker(ask(f"{api}/work_pools/{POOL}/workers/filter", headers, {}))
    except ServiceError as problem:
        yield error("prefect", str(problem), f"check PREFECT_API_URL, or {START}")


def clock() -> Iterator[Finding]:
    """Their clocks against ours: tokens and S3 signatures hold for minutes."""
    names = ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "AWS_ENDPOINT_URL")
    places = [os.environ.get(name, "") for name in names]
    told, ahead = [], []
    for url in filter(lambda place: place.startswith("http"), places):
        try:
            skew = ask(url).skew
        except ServiceError:
            continue  # its own check says so
        if skew is None:
            continue
        told.append(url)
        if abs(skew) > SKEW:
            ahead.append(f"{shown(url)} is {skew:+.0f} s from ours")
    if ahead:
        yield warning("clock", "; ".join(ahead), "synchronise both (chrony, NTP)")
    elif told:
        yield ok("clock", f"as that of {len(told)} server(s), within {SKEW:.0f} s")


def _mlflow_server(uri: str) -> Finding:
    at = shown(uri)
    try:
        health = ask(f"{uri}/health")
        told = ask(f"{uri}/version", _mlflow_headers())
        search = f"{uri}/api/2.0/mlflow/experiments/search"
        answer = ask(search, _mlflow_headers(), {"max_results": 1})
    except ServiceError as problem:
        return error("mlflow", str(problem), f"check MLFLOW_TRACKING_URI, or {START}")
    if answer.status in (401, 403):
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return error("mlflow", f"{at}: access denied ({answer.status})", remedy)
    if health.status != 200 or answer.status != 200:
        bad = health.status if health.status != 200 else answer.status
        text = f"{at}: answers {bad}"
        remedy = "is it MLflow that answers there? its log says more"
        return error("mlflow", text, remedy)
    return _compared("mlflow", at, told.text if told.status == 200 else "")


def _compared(name: str, where: str, theirs: str) -> Finding:
    """Same minor version: what both sides' tests are about."""
    ours = version(name)
    if theirs.split(".")[:2] == ours.split(".")[:2]:
        return ok(name, f"{where} answers, version {theirs}")
    text = f"{where} has version {theirs or 'unknown'}, we have {ours}"
    return warning(name, text, "run the version of constraints.txt on both sides")


def _database(file: Path) -> Finding:
    """The embedded store: readable, and at the revision that this MLflow wants."""
    if not file.exists():
        return ok("mlflow", f"embedded: {file} is made by the first registration")
    try:
        store = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=3)
        try:
            rows = store.execute("select version_num from alembic_version").fetchall()
        finally:
            store.close()
    except sqlite3.Error as problem:
        remedy = "put it aside and let a run make a new one, or bring back a copy"
        return error("mlflow", f"{file}: {problem}", remedy)
    have, (heads, known) = {str(row[0]) for row in rows}, _revisions()
    if have == heads:
        return ok("mlflow", f"embedded: {file}, up to date")
    if have <= known:
        remedy = f"copy it, then `.venv/bin/mlflow db upgrade sqlite:///{file}`"
        return error("mlflow", f"{file}: made by an older MLflow", remedy)
    remedy = f"install that version (here is {version('mlflow')})"
    return error("mlflow", f"{file}: made by a newer MLflow", remedy)


def _revisions() -> tuple[set[str], set[str]]:
    """The newest of MLflow's migrations, and all; read, since its import is slow."""
    spec = find_spec("mlflow")
    places = spec.submodule_search_locations if spec else None
    known: set[str] = set()
    before: set[str] = set()
    for place in places or ():
        for file in Path(place, "store/db_migrations/versions").glob("*.py"):
            for down, revision in REVISION.findall(file.read_text("utf-8")):
                (before if down else known).add(revision)
    return known - before, known


def _worker(answer: Answer) -> Finding:
    remedy = f"on the worker's machine: `.venv/bin/prefect worker start --pool {POOL}`"
    if answer.status == 404:
        return warning("worker", f"there is no work pool '{POOL}'", remedy)
    if answer.status != 200:
        return warning("worker", f"Prefect answers {answer.status}", remedy)
    alive = [w["name"] for w in answer.json() if w.get("status") == "ONLINE"]
    if not alive:
        return warning("worker", f"none is online in the pool '{POOL}'", remedy)
    return ok("worker", f"{', '.join(alive)} in the pool '{POOL}'")


def _mlflow_headers() -> dict[str, str]:
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    return basic(f"{user}:{password}") if user else {}


def _prefect_headers() -> dict[str, str]:
    if found := os.environ.get("PREFECT_API_AUTH_STRING"):
        return basic(found)
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}
