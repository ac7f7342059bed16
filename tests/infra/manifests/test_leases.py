"""Prefect's server keeps who holds a slot, however it is started."""

from importlib import import_module
from pathlib import Path

import pytest
from deployment_files import ROOT

from infra.local.services import LEASES

FILES = ("compose/compose.yaml", "kubernetes/base/prefect.yaml",
         "systemd/kmunet-prefect.service")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_it_is_on_disk(name):
    ((variable, value),) = LEASES.items()
    text = Path(ROOT, "infra", name).read_text()
    assert variable in text
    assert value in text


def test_the_installed_prefect_has_it():
    (value,) = LEASES.values()
    assert import_module(value).ConcurrencyLeaseStorage
