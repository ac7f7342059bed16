"""Content by hash from a DVC remote on a real S3 server: once a node, all checked."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from proxy import Proxy

from kmunet.data.content import fetch_content
from kmunet.errors import MissingError, RemoteError, UnreachableError

FILES = {"images/a.png": b"a" * 1000, "images/b.png": b"b" * 70_000, "list.csv": b"c"}
CHILD = (
    "import sys; from pathlib import Path; from kmunet.data.content import *;"
    "fetch_content(sys.argv[1], sys.argv[2], Path(sys.argv[3]))"
)


def md5_of(content):
    return hashlib.md5(content).hexdigest()


def push(server, files, name="store"):
    """Lay files out as `dvc push` does (tests/flows/test_versioning.py uses DVC)."""
    items = [{"md5": md5_of(c), "relpath": n} for n, c in sorted(files.items())]
    listing = json.dumps(items).encode()
    md5 = f"{md5_of(listing)}.dir"
    for key, content in [*((md5_of(c), c) for c in files.values()), (md5, listing)]:
        server.put("dvc", f"{name}/files/md5/{key[:2]}/{key[2:]}", content)
    return f"s3://dvc/{name}", md5


def contents(path):
    found = (p for p in path.rglob("*") if p.is_file())
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in found}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("kmunet.data.content.FIRST_PATIENCE", ())
    monkeypatch.setattr("kmunet.data.download.PATIENCE", (0.1,))


def test_a_folder_and_a_file(aws, s3_server, tmp_path):
    remote, md5 = push(s3_server, FILES)
    path = fetch_content(remote, md5, tmp_path)
    assert path == tmp_path / md5.removesuffix(".dir")
    assert contents(path) == FILES
    assert list(tmp_path.iterdir()) == [path]
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # not asked again
    assert fetch_content(remote, md5, tmp_path) == path
    aws.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    file = fetch_content(remote, md5_of(b"c"), tmp_path)
    assert file.read_bytes() == b"c"


def test_the_endpoint_may_be_given(aws, s3_server, tmp_path):
    remote, md5 = push(s3_server, FILES)
    aws.delenv("AWS_ENDPOINT_URL")
    options = {"endpoint_url": s3_server.endpoint}
    assert contents(fetch_content(remote, md5, tmp_path, options)) == FILES


def test_a_remote_that_is_a_folder(aws, s3_server, tmp_path):
    _, md5 = push(s3_server, FILES)
    place = str(s3_server.root / "dvc" / "store")
    assert contents(fetch_content(place, md5, tmp_path)) == FILES


@pytest.mark.parametrize("name", ["Dépôt de données", "50 % #1?"])
def test_a_folder_of_any_name(aws, s3_server, tmp_path, name):
    _, md5 = push(s3_server, FILES)
    place = tmp_path / name
    shutil.copytree(s3_server.root / "dvc" / "store", place)
    assert contents(fetch_content(str(place), md5, tmp_path / "in")) == FILES


def test_what_was_not_pushed(aws, s3_server, tmp_path):
    remote, md5 = push(s3_server, FILES)
    for missing in ("0" * 32, f"{'0' * 32}.dir"):
        with pytest.raises(MissingError, match=r"s3://dvc/store/.*dvc push"):
            fetch_content(remote, missing, tmp_path)
    with pytest.raises(RemoteError, match="is no MD5"):
        fetch_content(remote, "../../etc", tmp_path)
    key = md5_of(FILES["list.csv"])
    s3_server.delete("dvc", f"store/files/md5/{key[:2]}/{key[2:]}")
    with pytest.raises(MissingError, match="dvc push"):
        fetch_content(remote, md5, tmp_path)
    assert not (tmp_path / md5.removesuffix(".dir")).exists()


def test_a_wrong_byte_is_refused_and_a_cut_goes_on(aws, s3_server, tmp_path):
    remote, md5 = push(s3_server, FILES, "damaged")
    key = md5_of(FILES["images/b.png"])
    place = f"damaged/files/md5/{key[:2]}/{key[2:]}"
    s3_server.put("dvc", place, b"x" * 70_000)
    with pytest.raises(RemoteError, match=f"wrong md5: expected {key}"):
        fetch_content(remote, md5, tmp_path)
    s3_server.put("dvc", place, FILES["images/b.png"])
    proxy = Proxy(s3_server.port)
    options = {"endpoint_url": proxy.endpoint}
    assert contents(fetch_content(remote, md5, tmp_path, options)) == FILES
    assert proxy.gets == 1  # the list and the good files were there
    proxy.close()


def test_names_that_lead_outside(aws, s3_server, tmp_path):
    for name in ("../evil", "/etc/evil", "images"):
        remote, md5 = push(s3_server, {name: b"x", "images/a": b"y"}, "evil")
        with pytest.raises(RemoteError, match="refused: it lists"):
            fetch_content(remote, md5, tmp_path / "in")
    assert not list(tmp_path.rglob("*evil*"))


def test_workers_of_a_node_download_once(aws, s3_server, tmp_path):
    remote, md5 = push(s3_server, FILES)
    proxy = Proxy(s3_server.port, delay=0.02)
    aws.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    command = [sys.executable, "-c", CHILD, remote, md5, str(tmp_path)]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    texts = [worker.communicate(timeout=60)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], texts
    assert contents(tmp_path / md5.removesuffix(".dir")) == FILES
    assert proxy.gets == len(FILES) + 1
    proxy.close()


def test_no_network(aws, s3_server, tmp_path):
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UnreachableError, match="s3://dvc/store"):
        fetch_content("s3://dvc/store", "0" * 32, tmp_path)
