"""Namespaces as machines: addresses, processes, cables; what is missing, by name."""

import os
import subprocess
import time

import pytest

from infra.nodes import Network, Node, missing, namespace, require
from kmunet.errors import ServiceError

NAME = f"kmt{os.getpid() % 10**7}"  # these tests may run twice at a time


@pytest.fixture(scope="module")
def network():
    if lacks := missing():
        pytest.skip(f"network namespaces need {'; '.join(lacks)}")
    with Network.create(NAME) as made:
        yield made


@pytest.fixture
def machine(network, tmp_path):
    """A machine on which a shell waits, with its own /mnt."""
    name = namespace.add(network, 7)
    (tmp_path / "disk").mkdir()
    mounts = [f"mount --bind {tmp_path}/disk /mnt"]
    env = {"PATH": os.environ["PATH"]}
    namespace.start(name, ["sleep", "60"], mounts, env, tmp_path / "log")
    deadline = time.monotonic() + 10
    while "sleep" not in _ps(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    yield name
    namespace.kill(name)


def _run(name, *command):
    entered = [*namespace.entering(name), *command]
    done = subprocess.run(entered, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _ps(name):
    with_first = namespace.first(name)
    return _run(name, "ps", "-e", "-o", "args") if with_first else ""


def test_a_machine_has_its_own_name_address_disk_and_processes(
    machine, network, tmp_path
):
    assert _run(machine, "hostname").strip() == f"{NAME}-7"
    assert f"inet {network.prefix}.8/24" in _run(machine, "ip", "addr")
    _run(machine, "touch", "/mnt/here")
    assert (tmp_path / "disk/here").exists()
    assert not os.path.exists("/mnt/here")  # noqa: PTH110
    assert _ps(machine).splitlines()[1] == "sleep 60"
    assert "pytest" not in _ps(machine)


def test_the_cable_goes_out_and_in(machine, network):
    import socket

    with socket.create_server((network.host, 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('{network.host}', {port}), 1)"
        ask = ("python3", "-c", code)
        assert _run(machine, *ask) == ""
        namespace.plug(machine, False)
        assert "timed out" in _run(machine, *ask)
        namespace.plug(machine, True)
        assert _run(machine, *ask) == ""


def test_a_kill_leaves_nothing_and_another_process_finds_the_network(machine, network):
    assert Network.open(NAME) == network
    assert network.namespaces() == [f"{NAME}-7"]
    assert namespace.pids(machine)
    namespace.kill(machine)
    assert namespace.pids(machine) == []
    with pytest.raises(ServiceError, match=f"{NAME}-7: nothing runs there: start"):
        namespace.entering(machine)


def test_what_cannot_be_is_said(network, tmp_path):
    with pytest.raises(ServiceError, match=f"node 251 of {NAME}: from 1 to 250"):
        network.address(251)
    with pytest.raises(ServiceError, match="network 'Lab-1': 1 to 10 of a-z and 0-9"):
        Network.create("Lab-1")
    node = Node(network, 9, tmp_path / "9", "token", hidden=[tmp_path / "nowhere"])
    with pytest.raises(ServiceError, match="nowhere cannot be hidden: no folder"):
        node.start()
    with pytest.raises(ServiceError, match=f"{NAME}-9: nothing runs there: start"):
        node.popen(["true"])


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = r"need root .*; the program `ip` \(package iproute2\); .*: add it, or use"
    with pytest.raises(ServiceError, match=said):
        require()


def test_a_token_is_not_shown(network, tmp_path):
    node = Node(network, 9, tmp_path, "s3cret", {"AWS_SECRET_ACCESS_KEY": "k3y"})
    assert "s3cret" not in repr(node)
    assert "k3y" not in repr(node)
