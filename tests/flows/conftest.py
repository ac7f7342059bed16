import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_project, for tests alone

from small_project import make_project


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "project")


@pytest.fixture
def endpoint(monkeypatch):
    """Where messages arrive: a list of titles and bodies; its URL as `json://`."""
    arrived = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["Content-Length"])
            arrived.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"json://user:hidden@127.0.0.1:{server.server_port}/"
    monkeypatch.setenv("KMUNET_NOTIFY", url)
    yield arrived, url
    server.shutdown()
    server.server_close()
