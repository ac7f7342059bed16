"""What a user reads when a place cannot be had: the URL, the reason, the remedy."""

import hashlib
import http.server
import threading
import time

import pytest
from s3 import SECRET

from kmunet.data import network
from kmunet.data.address import Address
from kmunet.data.remote import fetch, localize
from kmunet.errors import RemoteError, UnreachableError


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("kmunet.data.remote.FIRST_PATIENCE", (0.1,))
    monkeypatch.setattr("kmunet.data.download.PATIENCE", (0.1, 0.1))


@pytest.fixture
def zip_url(s3_server):
    return s3_server.put("errors", "a.zip", b"zip" * 100)


def refusal(url, folder, say=print):
    with pytest.raises(RemoteError) as caught:
        localize(url, folder, say)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(Address(url.partition("#")[0]).shown)
    assert SECRET not in text
    assert not list(folder.rglob("*.lock"))
    return text


def test_what_is_not_there(aws, zip_url, tmp_path):
    for url in ("s3://errors/b.zip", "s3://no-such/a.zip", "s3://errors/none/"):
        text = refusal(url, tmp_path)
        assert "no such bucket or key (404)" in text
        assert "AWS_ENDPOINT_URL" in text


def test_wrong_keys(aws, zip_url, tmp_path):
    aws.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    text = refusal(zip_url, tmp_path)
    assert "access denied (403)" in text
    assert "AWS_ACCESS_KEY_ID" in text
    assert "not-the-secret" not in text


def test_no_keys_at_a_private_server(no_aws, s3_server, zip_url, tmp_path):
    no_aws.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    said = []
    text = refusal(zip_url, tmp_path, said.append)
    assert "no credentials found, and it is not public" in text
    assert "AWS_PROFILE" in text
    assert "anonymous" in said[0]


def test_no_keys_at_a_public_server(no_aws, open_s3_server, zip_url, tmp_path):
    no_aws.setenv("AWS_ENDPOINT_URL", open_s3_server.endpoint)
    said = []
    path = localize(zip_url, tmp_path, said.append)
    assert path.read_bytes() == b"zip" * 100
    assert "trying without (anonymous)" in said[0]


def test_an_endpoint_that_does_not_answer(aws, zip_url, tmp_path):
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    said = []
    assert "no connection" in refusal(zip_url, tmp_path, said.append)
    assert "again in 0.1 s" in said[0]


def test_a_profile_that_is_not_there(no_aws, zip_url, tmp_path):
    no_aws.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in refusal(zip_url, tmp_path)


def test_protocols(tmp_path):
    assert "unknown protocol 'foo://'" in refusal("foo://a/b", tmp_path)
    assert "chained" in refusal("zip://a::s3://b/c.zip", tmp_path)


def test_secrets_in_urls_are_never_shown(tmp_path):
    url = "http://user:hunter2@127.0.0.1:1/a.zip?token=hunter3"
    text = refusal(url, tmp_path)
    assert "hunter" not in text
    assert "http://127.0.0.1:1/a.zip?..." in text
    assert "hunter" not in repr(Address(url))
    text = refusal("s3://key:hunter2@bucket/a.zip", tmp_path)
    assert "AWS_ACCESS_KEY_ID" in text
    assert "hunter" not in text


def test_checksums_that_are_none(tmp_path):
    assert "64 hexadecimal" in refusal("s3://b/a.zip#sha256=12", tmp_path)


class Web(http.server.BaseHTTPRequestHandler):
    """Cannot send a part, as many servers; its answers are a list of states."""

    states: list  # of 200, 403, 500, 503, "cut"

    def _answer(self):
        state = self.states.pop(0) if self.command == "GET" and self.states else 200
        self.send_response(200 if state == "cut" else state)
        size = len(CONTENT) if state in (200, "cut") else 0
        self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.command == "GET" and size:
            self.wfile.write(CONTENT[: size // 2 if state == "cut" else size])
            self.close_connection = state == "cut"
            time.sleep(0.3 if state == "cut" else 0)  # let the half arrive

    do_GET = do_HEAD = _answer  # noqa: N815

    def log_message(self, *args):
        pass


CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def web(request):
    kind = getattr(request, "param", Web)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.zip"
    server.shutdown()
    server.server_close()


class Resuming(Web):
    """Sends the part that is asked for, and 416 where there is none."""

    def _answer(self):
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").split("-")[0] or 0)
        status = 206 if wanted else 200
        self.send_response(416 if start >= len(CONTENT) else status)
        self.send_header("ETag", '"v1"')
        self.send_header("Content-Length", str(len(CONTENT[start:])))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT[start:])

    do_GET = do_HEAD = _answer  # noqa: N815


@pytest.mark.parametrize("web", [Resuming], indirect=True)
def test_what_had_all_come_when_it_was_stopped_is_kept(web, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kmunet.data.download.verify", stop)
        with pytest.raises(KeyboardInterrupt):
            fetch(web, tmp_path / "a.zip")
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT
    said = []
    path = fetch(web, tmp_path / "a.zip", said.append).path
    assert path.read_bytes() == CONTENT
    assert "going on from 1.0 of 1.0 MB" in " ".join(said)


class Published(Resuming):
    """Has a.zip.sha256 beside a.zip, and cannot always say so."""

    away: bool

    def _answer(self):
        if self.path.endswith(".md5"):
            self.send_error(404)
        elif not self.path.endswith(".sha256"):
            super()._answer()
        elif self.away:
            self.send_error(503)
        else:
            line = f"{hashlib.sha256(CONTENT).hexdigest()}  a.zip\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(line)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(line)

    do_GET = do_HEAD = _answer  # noqa: N815


@pytest.mark.parametrize("web", [Published], indirect=True)
def test_a_published_checksum_is_not_passed_over(web, tmp_path, monkeypatch):
    monkeypatch.setattr(Published, "away", True, raising=False)
    with pytest.raises(UnreachableError, match=r"zip\.sha256: the server answers 503"):
        fetch(web, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    monkeypatch.setattr(Published, "away", False)
    found = fetch(web, tmp_path / "a.zip")
    assert found.path.read_bytes() == CONTENT
    assert found.record["check"] == "sha256 of a.zip.sha256"


class Silent(http.server.BaseHTTPRequestHandler):
    """Says neither how much it sends nor what it is."""

    def do_GET(self):
        self.send_response(404 if "zip." in self.path else 200)
        self.end_headers()
        if "zip." not in self.path:
            self.wfile.write(CONTENT)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("web", [Silent], indirect=True)
def test_what_cannot_be_checked_is_said(web, tmp_path):
    said = []
    assert fetch(web, tmp_path / "a.zip", said.append).path.read_bytes() == CONTENT
    assert "checked by nothing at all: the server says neither" in said[-1]


def with_states(monkeypatch, *states):
    monkeypatch.setattr(Web, "states", list(states), raising=False)


def test_a_server_that_cannot_resume(web, tmp_path, monkeypatch):
    with_states(monkeypatch, "cut", 200)
    said = []
    path = localize(web, tmp_path, said.append)
    assert path.read_bytes() == CONTENT
    assert any("cannot resume: from the start" in line for line in said)


def test_5xx_is_tried_again_and_4xx_is_not(web, tmp_path, monkeypatch):
    with_states(monkeypatch, 503)
    said = []
    assert fetch(web, tmp_path / "a", said.append).path.read_bytes() == CONTENT
    assert "the server answers 503; again in" in said[0]
    with_states(monkeypatch, 403, 200)
    with pytest.raises(RemoteError, match=r"access denied \(403\)"):
        fetch(web, tmp_path / "b", said.append)
    with_states(monkeypatch, *[500] * 9)
    with pytest.raises(UnreachableError, match="the server answers 500"):
        fetch(web, tmp_path / "c", said.append)


def test_what_passes_by_waiting():
    assert network.is_transient(ConnectionResetError())
    assert network.is_transient(TimeoutError())
    assert not network.is_transient(PermissionError())
    assert not network.is_transient(ValueError())
