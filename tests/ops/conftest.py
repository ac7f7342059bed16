"""Every version of the scan that this machine can run; Triton in its interpreter."""

from dataclasses import dataclass

import pytest
import torch

from kmunet.ops import dispatch, use_backend

GPU = torch.cuda.is_available()
CASES = [
    ("cpu", "cpu"),
    ("chunked", "cpu"),
    ("chunked", "cuda"),
    ("triton", "cuda" if GPU else "cpu"),
    ("mamba-ssm", "cuda"),
]


@dataclass(frozen=True)
class Version:
    """A version in use, and where its tensors go."""

    name: str
    device: str

    @property
    def interpreted(self):
        """One operation of Triton's takes a millisecond: sizes must be tiny."""
        return self.name == "triton" and self.device == "cpu"

    @property
    def repeatable(self):
        return self.name != "mamba-ssm"


@pytest.fixture
def small_plan(monkeypatch):
    """Chunks and tiles so short that a dozen steps have several of each."""
    from kmunet.ops.triton import scan
    from kmunet.ops.triton.plan import Plan

    monkeypatch.setattr(scan, "plan", lambda *sizes: Plan(chunk=5, block=32, tile=2))


@pytest.fixture(params=CASES, ids="-".join)
def version(request, monkeypatch):
    name, device = request.param
    if device == "cuda" and not GPU:
        pytest.skip("no CUDA device on this machine")
    if name == "triton":
        pytest.importorskip("triton", reason="triton is not installed")
        if device == "cpu":
            monkeypatch.setenv("TRITON_INTERPRET", "1")
            request.getfixturevalue("small_plan")
    if not dispatch.get(name).serves(device):
        pytest.skip(f"scan backend '{name}' cannot run on this machine")
    with use_backend(name):
        yield Version(name, device)
