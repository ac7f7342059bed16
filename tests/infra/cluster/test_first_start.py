"""What a first start checks and makes, before any server runs."""

import json
import os
import socket
import stat

import pytest
from cluster import Cluster, alone
from small_project import make_project

from infra.cluster import clients, postgres, services
from infra.cluster.place import BUCKETS, Place
from infra.cluster.secrets import Secrets, load
from infra.cluster.settings import PORTS, choose, write
from infra.nodes import missing
from kmunet.errors import ConfigError, ServiceError


def test_secrets_are_made_once_for_the_owner_alone(tmp_path):
    place = Place(tmp_path)
    place.make()
    made = load(place, postgres=False)
    assert load(place, postgres=True).values() == made.values()
    assert stat.S_IMODE(place.secrets.stat().st_mode) == 0o600
    assert len(set(made.values())) == len(made.values())
    assert all(len(value) >= 20 for value in made.values())
    assert not any(value in repr(made) for value in made.values())
    assert {p.name for p in place.buckets.iterdir()} == set(BUCKETS)


def test_secrets_that_are_gone_or_damaged_are_not_made_anew(tmp_path):
    place = Place(tmp_path)
    place.make()
    with pytest.raises(ServiceError, match="bring it back"):
        load(place, postgres=True)
    load(place, postgres=False)
    place.secrets.write_text('{"ray_token": "hunter2"')
    with pytest.raises(ServiceError, match="cannot be read") as error:
        load(place, postgres=True)
    assert "hunter2" not in str(error.value)


def test_settings_are_those_of_before_unless_asked(tmp_path):
    place = Place(tmp_path)
    place.make()
    first = choose(place, {}, [])
    assert (first.nodes, first.ports) == (2, PORTS)
    assert choose(place, {}, ["root"]).nodes == 0
    write(place, choose(place, {"nodes": 3, "mlflow": 5050}, []))
    again = choose(place, {"prefect": 4201}, [])
    assert again.nodes == 3
    assert again.ports == {**PORTS, "mlflow": 5050, "prefect": 4201}
    place.settings.write_text("{")
    with pytest.raises(ConfigError, match="remove it"):
        choose(place, {}, [])


@pytest.mark.parametrize(
    ("asked", "lacks", "says"),
    [
        ({"nodes": 2}, ["root"], "need root: add it, or give --nodes 0"),
        ({"host": "127.0.0.1"}, [], "give --nodes 0 with --host"),
    ],
)
def test_settings_that_cannot_be(tmp_path, asked, lacks, says):
    with pytest.raises(ConfigError, match=says):
        choose(Place(tmp_path), asked, lacks)


def test_databases_are_not_left_behind(tmp_path):
    place = Place(tmp_path)
    place.make()
    place.postgres.mkdir()
    write(place, choose(place, {}, []))
    with pytest.raises(ConfigError, match="move the folder"):
        choose(place, {"data": "/elsewhere"}, [])


def test_a_profile_for_clients_without_a_secret(tmp_path):
    place, secrets = Place(tmp_path), Secrets()
    place.make()
    settings = choose(place, {"nodes": 0, "host": "192.0.2.1"}, [])
    clients.write(place, settings, secrets)
    told = place.profiles.read_text()
    assert "http://192.0.2.1:5000" in told
    assert not any(value in told for value in secrets.values())


def test_missing_postgresql_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres, "PACKAGED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="apt-get install postgresql"):
        services.check_programs(choose(Place(tmp_path), {}, []))


def test_the_programs_are_of_the_version_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(postgres, "PACKAGED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("9.6", "15", "17"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "initdb").touch()
    data = tmp_path / "data"
    assert postgres.programs(data).parent.name == "17"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    assert postgres.programs(data).parent.name == "15"
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(ServiceError, match="install postgresql-16"):
        postgres.programs(data)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone starts it as another user")
def test_a_folder_that_postgres_cannot_reach_is_named(installed, tmp_path):
    tmp_path.chmod(0o700)
    settings = choose(Place(tmp_path), {}, [])
    with pytest.raises(ServiceError, match=r"chmod o\+x.*--postgres-data"):
        postgres.initialise(settings, Secrets())
    assert not (tmp_path / ".kmunet/cluster/postgres").exists()


@pytest.mark.usefixtures("installed")
def test_a_start_that_fails_leaves_nothing_running(reachable):
    found = Cluster(make_project(reachable / "broken"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = found.call("up", *alone(), "--s3-port", str(port))
    assert done.returncode == 2
    assert f"port {port} for s3" in done.stderr
    assert "--s3-port" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not any(found.records().values())
    assert json.loads(found.place.settings.read_text())["nodes"] == 0
    assert missing() or found.call("status").returncode == 1
