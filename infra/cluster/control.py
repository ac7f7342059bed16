"""Up, down and status of a stack."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.cluster import clients, postgres, remote, services, settings
from infra.cluster.parts import Part
from infra.cluster.place import Place
from infra.cluster.secrets import load
from infra.cluster.settings import Settings
from infra.cluster.stack import Stack
from infra.local import runs
from infra.local.services import server_home
from infra.local.stack import deploy
from infra.nodes import Network, missing
from infra.nodes.node import PORT
from kmunet.errors import ServiceError


def up(root: Path, asked: Mapping[str, Any]) -> None:
    """Start what does not run and wait for it; if that fails, nothing of it stays.

    asked: settings that the user gave. Raises KMUNetError.
    """
    place = Place(root)
    before = existing(root)
    if before and any(part.where() for part in before.parts()):
        chosen = before.settings
        if others := [key for key in asked if chosen.value(key) != asked[key]]:
            raise ServiceError(
                f"a stack runs with another {', '.join(sorted(others))}: "
                "`make cluster-down` first"
            )
    else:
        chosen = settings.choose(place, asked, missing())
    services.check_programs(chosen)
    with _network(chosen) as known:
        place.make()
        settings.write(place, known)
        stack = Stack(place, known, load(place, Path(known.data).exists()))
        _start(stack)
    _tell(stack)


def down(root: Path) -> None:
    """End the runs, then the worker, then the rest; data and secrets stay."""
    stack = existing(root)
    stopped: list[str] = []
    if stack:
        if ended := runs.end(root, stack.api):
            print(f"ended {ended} flow run(s)", flush=True)
        stopped = _stop(stack.parts())
        remote.forget(root)
        with suppress(ServiceError):
            Network.open(stack.settings.network).remove()
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def status(root: Path) -> int:
    """Print what runs; return 0 if all does, else 1."""
    stack = existing(root)
    if stack is None:
        print("no stack was started in this checkout")
        return 1
    states = {part.name: part.where() for part in stack.parts()}
    for name, where in states.items():
        print(f"{name:9} {where or 'not running'}")
    return 0 if all(states.values()) else 1


def existing(root: Path) -> Stack | None:
    """The one that was started here, whether it runs or not."""
    place = Place(root)
    known = settings.read(place)
    if known is None or not place.secrets.exists():
        return None
    return Stack(place, known, load(place, True))


def _start(stack: Stack) -> None:
    started: list[Part] = []
    groups = [[p for p in group if not p.where()] for group in stack.groups()]
    if not any(groups):
        print("already up")
        return
    try:
        postgres.initialise(stack.settings, stack.secrets)
        postgres.write_passwords(stack.place, stack.settings, stack.secrets)
        clients.write(stack.place, stack.settings, stack.secrets)
        for group in groups[:-1]:
            _start_group(group, started)
        headers = clients.prefect_headers(stack.secrets)
        home = server_home(stack.place.folder)
        runs.bury(stack.place.root, stack.api, home, headers)
        _start_group(groups[-1], started)
        client = clients.worker_environment(stack.place, stack.settings, stack.secrets)
        deploy(stack.place.root, client)
        remote.remember(stack.place.root, stack.settings)
    except BaseException:
        _stop(started)
        raise


def _start_group(group: Sequence[Part], started: list[Part]) -> None:
    for part in group:
        part.check()
    for part in group:
        started.append(part)
        part.start()
    for part in group:
        part.wait()
        print(f"{part.name} is ready", flush=True)


def _stop(parts: Sequence[Part]) -> list[str]:
    return [part.name for part in reversed(parts) if part.stop()]


@contextmanager
def _network(chosen: Settings) -> Iterator[Settings]:
    """The settings with the network's addresses; made where it is missing."""
    if not chosen.nodes:
        yield replace(chosen, head=chosen.host)
        return
    try:
        network, made = Network.open(chosen.network), False
    except ServiceError:
        before = chosen.host.rpartition(".")[0]
        prefix = None if before == "127.0.0" else before
        network, made = Network.create(chosen.network, prefix), True
    ports = {**chosen.ports, "ray": PORT}
    try:
        yield replace(chosen, host=network.host, head=network.address(1), ports=ports)
    except BaseException:
        if made:
            network.remove()
        raise


def _tell(stack: Stack) -> None:
    at, place = stack.settings, stack.place
    print(f"""
Prefect     {at.url("prefect")}
MLflow      {at.url("mlflow")}
Ray         {at.url("dashboard")} (dashboard), {at.at("ray")}
S3          {at.url("s3")}
PostgreSQL  {at.at("postgres")}
passwords   {place.secrets}; logs beside it

In the shell from which you work (bash):
  {clients.source_line(place)}
Then, for instance:
  .venv/bin/kmunet doctor
  .venv/bin/prefect deployment run 'kmunet/train' --watch \\
    -p datasets='["busi"]' -p raw='{{"busi": "/path/to/Dataset_BUSI.zip"}}'
  make cluster-down""")
