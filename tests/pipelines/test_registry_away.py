"""A registry whose server goes away, or knows who asks: a small one, of few answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from kmunet.errors import UnavailableError
from pipelines.tracking import Registry

API = "/api/2.0/mlflow"
EXPERIMENT = {"experiment_id": "1", "name": "squares", "lifecycle_stage": "active"}
MODEL = {"name": "squares"}
FINE = {
    f"{API}/experiments/get-by-name": {"experiment": EXPERIMENT},
    f"{API}/experiments/get": {"experiment": EXPERIMENT},
    f"{API}/registered-models/search": {"registered_models": [MODEL]},
}


IMAGES = np.zeros((1, 8, 8, 3), np.uint8)
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
