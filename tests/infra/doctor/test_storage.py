"""Against a real S3 server: network, keys and bucket are told apart."""

import socket

from infra.doctor import storage
from infra.doctor.storage import bucket, checkpoints, dvc
from pipelines.profile import Profile


def only(findings):
    (found,) = findings
    return found


def test_what_can_be_listed(aws, s3_server):
    s3_server.put("doctor", "checkpoints/a", b"a")
    assert bucket("s3", "s3://doctor/checkpoints", {}).level == "ok"
    aws.setenv("KMUNET_STORAGE", "s3://doctor/other")
    assert only(checkpoints()).level == "ok"


def test_wrong_keys_no_keys_no_bucket_no_server(aws, s3_server, free_port):
    s3_server.put("doctor", "checkpoints/a", b"a")
    found = bucket("s3", "s3://nowhere/x", {})
    assert "no such bucket" in found.text
    assert "aws s3 mb s3://nowhere" in found.remedy
    aws.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    found = bucket("s3", "s3://doctor/x", {})
    assert "the secret is not that of the access key" in found.text
    aws.setenv("AWS_ACCESS_KEY_ID", "unknown")
    found = bucket("s3", "s3://doctor/x", {})
    assert "does not know this access key" in found.text
    assert "AWS_ACCESS_KEY_ID" in found.remedy
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials found" in bucket("s3", "s3://doctor/x", {}).text
    aws.setenv("AWS_ACCESS_KEY_ID", "any")
    aws.setenv("AWS_SECRET_ACCESS_KEY", "any")
    aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port}")
    found = bucket("s3", "s3://doctor/x", {})
    assert found.level == "error"
    assert "no connection: connection refused" in found.text


def test_a_server_that_says_nothing(aws, monkeypatch):
    monkeypatch.setattr(storage, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"http://127.0.0.1:{silent.getsockname()[1]}"
        aws.setenv("AWS_ENDPOINT_URL", place)
        found = bucket("s3", "s3://doctor/x", {})
    assert found.level == "error"
    assert "no answer in time" in found.text


def test_the_dvc_remote_with_its_own_server_and_keys(no_aws, s3_server, tmp_path):
    s3_server.put("doctor", "dvc/a", b"a")
    keys = s3_server.env()
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n"
        f"    url = s3://doctor/dvc\n    endpointurl = {s3_server.endpoint}\n"
    )
    (tmp_path / ".dvc" / "config.local").write_text(
        f"['remote \"store\"']\n    access_key_id = {keys['AWS_ACCESS_KEY_ID']}\n"
        f"    secret_access_key = {keys['AWS_SECRET_ACCESS_KEY']}\n"
    )
    cache, remote = dvc(tmp_path, Profile())
    assert (cache.level, remote.level) == ("ok", "ok"), remote
    _, remote = dvc(tmp_path, Profile(dvc_remote="s3://doctor/other"))
    assert remote.level == "warning"
    assert "dvc remote modify store url s3://doctor/other" in remote.remedy


def test_a_cluster_needs_a_remote(no_services, tmp_path):
    (tmp_path / ".dvc").mkdir()
    assert list(dvc(tmp_path, Profile()))[-1].level == "ok"
    no_services.setenv("RAY_ADDRESS", "head:6379")
    remote = list(dvc(tmp_path, Profile(dvc_remote="s3://b/dvc")))[-1]
    assert remote.level == "error"
    assert "dvc remote add -d store s3://b/dvc" in remote.remedy
    assert only(checkpoints()).level == "warning"
