"""Downloads from a real S3 server, through real cuts, by killed processes."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from proxy import Proxy

from kmunet.data import connect, network
from kmunet.data.remote import fetch, localize
from kmunet.errors import DataError, RemoteError, UnreachableError

CHILD = (
    "import sys; from pathlib import Path; from kmunet.data import connect;"
    "connect.CHUNK = 2**17; from kmunet.data.remote import fetch;"
    "fetch(sys.argv[1], Path(sys.argv[2]))"
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Many requests for a small file; and pauses that tests can afford."""
    monkeypatch.setattr(connect, "CHUNK", 2**17)
    monkeypatch.setattr("kmunet.data.download.CHUNK", 2**17)
    monkeypatch.setattr("kmunet.data.download.PATIENCE", (0.2,) * 8)
    monkeypatch.setattr("kmunet.data.remote.FIRST_PATIENCE", (0.1,))


@pytest.fixture
def said():
    return []


@pytest.fixture
def object_of(s3_server, request):
    """Make a random object of its own for each test: its URL and its bytes."""

    def _make(size=2**21, key="lesions.zip"):
        content = os.urandom(size)
        bucket = f"b-{abs(hash(request.node.name))}"
        return s3_server.put(bucket, key, content), content

    return _make


@pytest.fixture
def proxied(aws, s3_server):
    """Put a proxy between us and the server."""
    made = []

    def _make(**options):
        made.append(Proxy(s3_server.port, **options))
        aws.setenv("AWS_ENDPOINT_URL", made[-1].endpoint)
        return made[-1]

    yield _make
    for proxy in made:
        proxy.close()


def record_of(path):
    return json.loads(path.with_name(f".{path.name}.download.json").read_text())


def test_a_local_path_stays_what_it_is(tmp_path):
    assert localize("/data/a.zip", tmp_path) == Path("/data/a.zip")


def test_a_file_comes_once_checked_and_recorded(proxied, object_of, tmp_path, said):
    url, content = object_of()
    proxy = proxied()
    path = localize(url, tmp_path, said.append)
    assert path.read_bytes() == content
    assert path.name == "lesions.zip"
    assert record_of(path) == {
        "url": url,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "etag": hashlib.md5(content).hexdigest(),
        "check": "md5 of S3's ETag",
    }
    assert "checked by md5 of S3's ETag" in said[-1]
    before = proxy.sent
    assert localize(url, tmp_path, said.append) == path
    assert proxy.sent - before < 2000  # one HEAD
    assert sorted(p.name for p in path.parent.iterdir()) == [
        ".lesions.zip.download.json", "lesions.zip"]  # fmt: skip


def test_a_changed_object_comes_again(aws, s3_server, object_of, tmp_path, said):
    url, _ = object_of()
    localize(url, tmp_path)
    new = s3_server.put(url.split("/")[2], "lesions.zip", b"new")
    assert localize(new, tmp_path, said.append).read_bytes() == b"new"
    assert any("changed since" in line for line in said)


def test_without_network_a_finished_download_is_used(aws, object_of, tmp_path, said):
    url, content = object_of()
    fetch(url, tmp_path / "a.zip")
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert fetch(url, tmp_path / "a.zip", said.append).path.read_bytes() == content
    assert "using the copy that was downloaded before" in said[-1]
    with pytest.raises(UnreachableError, match="AWS_ENDPOINT_URL"):
        fetch(url, tmp_path / "b.zip")


def test_a_cut_connection_goes_on_from_there(proxied, object_of, tmp_path, said):
    url, content = object_of()
    proxy = proxied(cut_after=len(content) // 2, down=0.5)
    path = localize(url, tmp_path, said.append)
    assert path.read_bytes() == content
    assert any("again in" in line for line in said)
    assert proxy.sent < len(content) + 2**18  # at most a chunk twice
    assert proxy.refused > 0


def test_a_server_that_stays_down_leaves_the_part_for_later(
    proxied, object_of, tmp_path, said
):
    url, content = object_of()
    proxy = proxied(cut_after=len(content) // 2, down=600)
    with pytest.raises(UnreachableError, match="run the same again"):
        localize(url, tmp_path, said.append)
    proxy.down_until, before = 0, proxy.sent
    assert localize(url, tmp_path, said.append).read_bytes() == content
    assert any("going on from" in line for line in said)
    assert proxy.sent - before < 0.7 * len(content)


def kill_in_the_middle(url, target):
    """Start a download in a process of its own and kill it with no warning."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(target)],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    part = target.with_name(f"{target.name}.part")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if part.exists() and part.stat().st_size > 2**18:
            break
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    return part.stat().st_size


def test_a_killed_process_is_gone_on_from(proxied, object_of, tmp_path, said):
    url, content = object_of()
    proxy = proxied(delay=0.02)
    target = tmp_path / "a.zip"
    there = kill_in_the_middle(url, target)
    assert 0 < there < len(content)
    proxy.delay, before = 0, proxy.sent
    assert fetch(url, target, said.append).path.read_bytes() == content
    assert any("going on from" in line for line in said)
    assert proxy.sent - before < len(content) - there + 2**18


def test_what_changed_between_cut_and_resume_comes_from_the_start(
    proxied, aws, s3_server, object_of, tmp_path, said
):
    url, content = object_of()
    proxied(delay=0.02)
    target = tmp_path / "a.zip"
    kill_in_the_middle(url, target)
    aws.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    new = bytes(reversed(content))
    s3_server.put(url.split("/")[2], "lesions.zip", new)
    assert fetch(url, target, said.append).path.read_bytes() == new
    assert any("of another version: from the start" in line for line in said)


def test_what_changes_while_it_comes_is_noticed(
    aws, s3_server, object_of, tmp_path, said
):
    url, content = object_of()
    new = bytes(reversed(content))

    read = connect.Remote.read

    def changing(self, address, start, found):
        for number, chunk in enumerate(read(self, address, start, found)):
            yield chunk
            if number == 3 and not said:
                s3_server.put(url.split("/")[2], "lesions.zip", new)

    aws.setattr(connect.Remote, "read", changing)
    assert fetch(url, tmp_path / "a.zip", said.append).path.read_bytes() == new


def test_two_processes_make_one_download(proxied, object_of, tmp_path):
    url, content = object_of()
    proxy = proxied(delay=0.005)
    target = tmp_path / "a.zip"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, url, str(target)],
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    texts = [child.communicate(timeout=60)[1] for child in both]
    assert [child.returncode for child in both] == [0, 0], texts
    assert target.read_bytes() == content
    assert proxy.sent < 1.2 * len(content)
    assert sum("another process" in text for text in texts) == 1


def test_checksums_in_the_url_and_beside(aws, s3_server, object_of, tmp_path, said):
    url, content = object_of()
    sha256, md5 = (hashlib.new(n, content).hexdigest() for n in ("sha256", "md5"))
    bucket = url.split("/")[2]
    for given in (f"#sha256={sha256}", f"#md5={md5}"):
        found = fetch(url + given, tmp_path / given[1:4] / "a", said.append)
        assert found.record["check"].endswith("of the URL")
    s3_server.put(bucket, "lesions.zip.sha256", f"{sha256}  lesions.zip\n".encode())
    found = fetch(url, tmp_path / "a.zip", said.append)
    assert found.record["check"] == "sha256 of lesions.zip.sha256"
    s3_server.put(bucket, "lesions.zip.sha256", b"0" * 64)
    with pytest.raises(RemoteError, match=f"expected {'0' * 64} .*got {sha256}"):
        fetch(url, tmp_path / "b.zip")
    with pytest.raises(RemoteError, match="wrong md5"):
        fetch(f"{url}#md5={'0' * 32}", tmp_path / "c.zip")
    assert {p.name for p in tmp_path.iterdir()} == {
        "a.zip", ".a.zip.download.json", "sha", "md5"}  # fmt: skip


def test_a_damaged_copy_is_not_taken_for_the_finished_one(aws, object_of, tmp_path):
    url, content = object_of()
    path = localize(url, tmp_path)
    path.write_bytes(content[:1000])
    assert localize(url, tmp_path).read_bytes() == content


def test_a_file_of_the_users_own_is_never_written_over(aws, object_of, tmp_path):
    url, _ = object_of()
    (tmp_path / "a.zip").write_text("mine")
    with pytest.raises(RemoteError, match="was not downloaded from"):
        fetch(url, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "mine"


def test_too_little_space(aws, object_of, tmp_path, monkeypatch):
    from kmunet.data import atomic

    url, _ = object_of()
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda place: usage)
    with pytest.raises(DataError, match="needs 2 MB but 0 MB are free"):
        localize(url, tmp_path)


def test_pauses_grow_to_a_minute_in_all():
    assert list(network.PATIENCE) == sorted(network.PATIENCE)
    assert 30 < sum(network.PATIENCE) < 120
