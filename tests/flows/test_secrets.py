"""Secrets from blocks: taken where the environment has none, in pairs, never shown."""

import pytest

from flows import secrets


@pytest.fixture
def blocks(monkeypatch):
    """What the server has, by variable."""
    found = {}
    monkeypatch.setattr(secrets, "_load", lambda name: found.get(name, ""))
    return found


def test_names_of_blocks():
    name = secrets.block_name("AWS_SECRET_ACCESS_KEY")
    assert name == "kmunet-aws-secret-access-key"


def test_without_a_server_nothing_is_asked(blocks):
    blocks["RAY_AUTH_TOKEN"] = "token"
    environ = {}
    assert secrets.load_secrets(environ) == []
    assert environ == {}


def test_pairs_come_together_and_the_environment_wins(blocks):
    blocks |= {"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": "hidden"}
    blocks |= {"MLFLOW_TRACKING_USERNAME": "half of a pair", "RAY_AUTH_TOKEN": "token"}
    environ = {"PREFECT_API_URL": "http://here/api"}
    assert secrets.load_secrets(environ) == [
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN",
    ]  # fmt: skip
    assert environ["AWS_SECRET_ACCESS_KEY"] == "hidden"
    assert "MLFLOW_TRACKING_USERNAME" not in environ
    for own in ({"AWS_ACCESS_KEY_ID": "mine"}, {"AWS_PROFILE": "mine"}):
        environ = {"PREFECT_API_URL": "http://here/api", **own}
        assert secrets.load_secrets(environ) == ["RAY_AUTH_TOKEN"]
        assert "AWS_SECRET_ACCESS_KEY" not in environ
