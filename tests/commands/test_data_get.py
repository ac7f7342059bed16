"""`kmunet data get` and `kmunet data check` on URLs, as they are called."""

import hashlib
import json
import shutil

import pytest

from kmunet.cli import main
from kmunet.data.synthetic import write_synthetic


@pytest.fixture
def archive(aws, s3_server, tmp_path):
    """A zip of synthetic lesions on the server: its URL and its bytes."""
    write_synthetic(tmp_path / "raw", images=12, size=64, seed=3)
    file = shutil.make_archive(str(tmp_path / "lesions"), "zip", tmp_path / "raw")
    content = (tmp_path / "lesions.zip").read_bytes()
    assert file.endswith("lesions.zip")
    return s3_server.put("commands", "set/lesions.zip", content), content


def test_get_prints_what_sha256sum_prints(archive, s3_server, tmp_path, capsys):
    url, content = archive
    s3_server.put("commands", "set/b.txt", b"b")
    out = tmp_path / "out"
    assert main(["data", "get", url, "s3://commands/set/", "--out", str(out)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{hashlib.sha256(content).hexdigest()}  {out / 'lesions.zip'}"
    assert second.endswith(f"  {out / 'set'}")
    assert (out / "set" / "b.txt").read_bytes() == b"b"


def test_get_says_what_is_wrong_in_one_line(archive, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["data", "get", "s3://commands/none.zip", *out]) == 2
    assert main(["data", "get", "/local.zip", *out]) == 2
    assert main(["data", "get", f"{archive[0]}#md5={'0' * 32}", *out]) == 2
    missing, local, wrong = capsys.readouterr().err.splitlines()
    assert missing.startswith("error: s3://commands/none.zip: no such bucket or key")
    assert local.startswith("error: /local.zip: no URL")
    assert "wrong md5: expected 000" in wrong
    assert not list((tmp_path / "out").iterdir())


def test_check_reads_a_url(archive, s3_server, tmp_path, capsys):
    url, _ = archive
    command = ["data", "check", "folder", url, "--out", str(tmp_path / "report")]
    command += ["--cache", str(tmp_path / "cache")]
    assert main(command) == main(command) == 0
    text = capsys.readouterr()
    assert "12 pairs, 0 errors" in text.out
    assert text.err.count("checked by md5") == 1  # the second time it was there
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["pairs"] == 12
    command[3] = url.replace("lesions", "none")
    assert main(command) == 2
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "404" in report["errors"][0]["message"]
