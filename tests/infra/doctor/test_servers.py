"""Servers that answer as MLflow and Prefect do, or as others; real SQLite stores."""

import json
import sqlite3
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from infra.doctor.servers import _revisions, clock, mlflow, prefect


@pytest.fixture
def server():
    """`server.answers[path] = (status, body)`; other paths give 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.server.seen[self.path] = self.headers.get("Authorization")
            status, body = self.server.answers.get(self.path, (404, ""))
            self.send_response_only(status)
            self.send_header("Date", formatdate(self.server.now, usegmt=True))
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.answers, found.seen, found.now = {}, {}, None
    found.url = f"http://127.0.0.1:{found.server_port}"
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


SEARCH = "/api/2.0/mlflow/experiments/search"
WORKERS = "/api/work_pools/kmunet/workers/filter"


def test_mlflow_by_its_answers(server, no_services, tmp_path):
    no_services.setenv("MLFLOW_TRACKING_URI", server.url)
    server.answers |= {"/health": (200, "OK"), "/version": (200, version("mlflow"))}
    server.answers[SEARCH] = (401, "")
    (found,) = mlflow(tmp_path)
    assert "access denied (401)" in found.text
    assert "MLFLOW_TRACKING_USERNAME" in found.remedy
    server.answers[SEARCH] = (200, "{}")
    no_services.setenv("MLFLOW_TRACKING_USERNAME", "me")
    no_services.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    (found,) = mlflow(tmp_path)
    assert found.level == "ok"
    assert server.seen[SEARCH] == "Basic bWU6aHVudGVyMg=="
    server.answers["/version"] = (200, "2.1.0")
    (found,) = mlflow(tmp_path)
    assert found.level == "warning"
    assert "version 2.1.0" in found.text
    server.answers["/health"] = (404, "")
    (found,) = mlflow(tmp_path)
    assert "answers 404" in found.text


def test_a_password_in_the_address_is_sent_and_not_shown(server, no_services, tmp_path):
    uri = server.url.replace("//", "//me:hunter%32@")
    no_services.setenv("MLFLOW_TRACKING_URI", uri)
    no_services.setenv("MLFLOW_TRACKING_USERNAME", "other")
    server.answers |= {"/health": (200, "OK"), "/version": (200, version("mlflow"))}
    for status, said in ((200, "answers"), (401, "denied"), (404, "answers 404")):
        server.answers[SEARCH] = (status, "{}")
        (found,) = mlflow(tmp_path)
        assert found.text.startswith(f"{server.url}")
        assert said in found.text
    assert server.seen[SEARCH] == "Basic bWU6aHVudGVyMg=="
    server.now = 0.0
    (found,) = clock()
    assert found.text.startswith(f"{server.url} is ")
    no_services.setenv("MLFLOW_TRACKING_URI", "ftp://me:hunter2@host")
    (found,) = mlflow(tmp_path)
    assert "'ftp://host'" in found.text


def test_prefect_by_its_answers(server, no_services):
    no_services.setenv("PREFECT_API_URL", server.url)  # without /api
    (found,) = prefect()
    assert "ends in /api" in found.remedy
    no_services.setenv("PREFECT_API_URL", f"{server.url}/api")
    server.answers["/api/admin/version"] = (200, json.dumps(version("prefect")))
    api, worker = prefect()
    assert (api.level, worker.level) == ("ok", "warning")
    assert "no work pool 'kmunet'" in worker.text
    workers = [{"name": "a", "status": "OFFLINE"}]
    server.answers[WORKERS] = (200, json.dumps(workers))
    _, worker = prefect()
    assert "none is online" in worker.text
    workers += [{"name": "b", "status": "ONLINE"}]
    server.answers[WORKERS] = (200, json.dumps(workers))
    _, worker = prefect()
    assert (worker.level, worker.text) == ("ok", "b in the pool 'kmunet'")
    server.answers["/api/admin/version"] = (401, "")
    (found,) = prefect()
    assert "PREFECT_API_AUTH_STRING" in found.remedy


def test_a_clock_that_is_wrong(server, no_services):
    no_services.setenv("AWS_ENDPOINT_URL", server.url)
    (found,) = clock()
    assert found.level == "ok"
    server.now = 0.0  # 1970
    (found,) = clock()
    assert found.level == "warning"
    assert "s from ours" in found.text


def store(folder, revision):
    with sqlite3.connect(folder / "mlflow.db") as db:
        db.execute("create table alembic_version (version_num text)")
        db.execute("insert into alembic_version values (?)", [revision])


def test_embedded_stores_of_other_versions(tmp_path):
    (head,), known = _revisions()
    for name, revision, level in (
        ("same", head, "ok"),
        ("older", min(known - {head}), "error"),
        ("newer", "ffffffffffff", "error"),
    ):
        (tmp_path / name).mkdir()
        store(tmp_path / name, revision)
        (found,) = mlflow(tmp_path / name)
        assert found.level == level, found
        assert (
            level == "ok" or f"made by a{'n' * (name == 'older')} {name}" in found.text
        )
    (tmp_path / "mlflow.db").write_bytes(b"no database, but longer than its header" * 9)
    (found,) = mlflow(tmp_path)
    assert "not a database" in found.text
