"""A registry whose server goes away, or knows who asks: a small one, of few answers."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from kmunet.errors import UnavailableError
from pipelines.address import shown
from pipelines.outbox import Outbox
from pipelines.tracking import Catalogue, Registry
from pipelines.tracking_live import MLflowSink

API = "/api/2.0/mlflow"
EXPERIMENT = {"experiment_id": "1", "name": "squares", "lifecycle_stage": "active"}
MODEL = {"name": "squares"}
FINE = {
    f"{API}/experiments/get-by-name": {"experiment": EXPERIMENT},
    f"{API}/experiments/get": {"experiment": EXPERIMENT},
    f"{API}/registered-models/search": {"registered_models": [MODEL]},
}


IMAGES = np.zeros((1, 8, 8, 3), np.uint8)
HEADER = {
    "experiment": "squares", "training": "a", "run_id": "", "time": 1, "tags": {},
    "params": {"train.lr": "0.001"},
}  # fmt: skip
MISSING = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not there"}


class Handler(BaseHTTPRequestHandler):
    """`server.answers[path]` is what is there; `server.fault`: a status for all."""

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append(self.headers.get("Authorization"))
        body = self.server.answers.get(self.path.partition("?")[0])
        data = json.dumps(body or MISSING).encode()
        self.send_response(self.server.fault or (200 if body else 404))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_PATCH = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.answers, found.fault, found.seen = dict(FINE), 0, []
    found.at = f"127.0.0.1:{found.server_port}"
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{found.at}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def registry(server, tmp_path):
    return Registry(tmp_path, "squares")


ASKED = [
    lambda registry: registry.find("identity", "a"),
    lambda registry: registry.alias("champion"),
    lambda registry: registry.set_alias("champion", "1"),
    lambda registry: registry.tag("1", "gate", "passed"),
    lambda registry: registry.get("1"),
    lambda registry: registry.apply("1", IMAGES, [0]).__enter__(),
]


@pytest.mark.parametrize("ask", ASKED)
def test_a_server_that_fails_is_unavailable_and_never_no_champion(
    server, registry, ask
):
    server.fault = 503
    with pytest.raises(UnavailableError, match="503"):
        ask(registry)


@pytest.mark.parametrize("ask", ASKED)
def test_a_server_that_is_gone_is_unavailable(server, registry, ask):
    server.shutdown()
    server.server_close()
    with pytest.raises(UnavailableError, match="refused"):
        ask(registry)


def test_an_alias_that_nothing_has_is_none(server, registry):
    server.answers[f"{API}/registered-models/get"] = {"registered_model": MODEL}
    assert registry.alias("champion") is None


@pytest.fixture
def with_password(server, monkeypatch):
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    uri = f"http://bob:hunter2%40@{server.at}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


def test_a_password_in_the_address_is_sent_and_not_shown(
    with_password, server, tmp_path
):
    registry = Registry(tmp_path, "squares")
    bob = base64.b64encode(b"bob:hunter2@").decode()
    assert set(server.seen) == {f"Basic {bob}"}
    server.fault = 503
    with pytest.raises(UnavailableError) as caught:
        registry.alias("champion")
    assert f"MLflow at http://{server.at}: " in str(caught.value)
    assert f"request to http://{server.at}{API}" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_lineage_tells_the_address_without_a_password(with_password, server, tmp_path):
    version = {"name": "squares", "version": "1"}
    server.answers |= {
        f"{API}/model-versions/search": {"model_versions": [version]},
        f"{API}/registered-models/get": {"registered_model": MODEL},
    }
    assert Catalogue(tmp_path).find("squares", "1").uri == f"http://{server.at}"


def test_lineage_asks_a_server_that_fails_once_more_and_gives_up(
    server, tmp_path, monkeypatch
):
    for name in ("MAX_RETRIES", "TIMEOUT"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}", raising=False)
    server.fault = 503
    with pytest.raises(UnavailableError, match="503"):
        Catalogue(tmp_path).find("squares", "1")
    assert len(server.seen) == 2


def test_what_is_not_delivered_is_told_without_a_password(
    with_password, server, tmp_path
):
    server.fault = 503
    said = []
    box = Outbox(tmp_path / "a.jsonl", HEADER, MLflowSink(tmp_path), said.append)
    box.put({"kind": "end", "time": 1, "status": "FINISHED", "tags": {}})
    assert not box.close(20)
    assert f"http://{server.at}{API}" in said[0]
    assert "hunter2" not in said[0]


def test_mlflow_itself_prints_no_address_with_a_password(
    with_password, server, tmp_path, capfd
):
    run = {"info": {"run_id": "r", "experiment_id": "1", "run_name": "a"}}
    server.answers[f"{API}/runs/get"] = {"run": run}
    server.answers[f"{API}/runs/update"] = {"run_info": run["info"]}
    Registry(tmp_path, "squares").client.set_terminated("r")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://bob:hunter2@host:5000/a", "http://host:5000/a"),
        ("x at postgresql://u:p@q@h/db: no", "x at postgresql://h/db: no"),
        ("http://host/a@b?c=d@e", "http://host/a@b?c=d@e"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_only_who_logs_in_is_left_out(text, expected):
    assert shown(text) == expected
