"""mamba-ssm where it cannot be imported, and what is not left to its kernel."""

import logging
import sys

import pytest
import torch

from kmunet.ops import mamba
from tests.ops.samples import NAMES, inputs, results


@pytest.fixture
def asked_anew():
    """Whether it can be imported is found out once a process."""
    before = set(sys.modules)
    mamba._function.cache_clear()
    yield
    mamba._function.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("mamba_ssm"):
            del sys.modules[name]


@pytest.mark.parametrize("error", ["ImportError", "OSError", "AttributeError"])
def test_one_that_breaks_on_import_is_told_once(
    error, asked_anew, tmp_path, monkeypatch, caplog
):
    (tmp_path / "mamba_ssm").mkdir()
    (tmp_path / "mamba_ssm/__init__.py").write_text(f"raise {error}('no symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("mamba_ssm")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with caplog.at_level(logging.WARNING, logger="kmunet.ops"):
        assert not mamba.usable()
        assert not mamba.usable()
    assert caplog.messages == [
        f"mamba-ssm is installed and cannot be imported: {error}: no symbol"
    ]


def test_a_kernel_is_not_launched_for_an_empty_batch(monkeypatch):
    monkeypatch.setattr(mamba, "_function", lambda: pytest.fail("launched"))
    tensors = inputs(0, 2, 3, 4, 5, torch.float32)
    found = results(mamba.selective_scan, tensors, NAMES)
    assert found["y"].shape == (0, 6, 5)
    assert all((value == 0).all() for value in found.values())
