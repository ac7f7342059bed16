"""A stand-in for the published code: as small, with the imports that it has."""

import os
from pathlib import Path

import pytest

from kmunet.ops import dispatch


@pytest.fixture(autouse=True)
def own_scans(monkeypatch):
    """A case chooses its scan for its whole process, which here is everybody's."""
    monkeypatch.setattr(dispatch, "_registry", dict(dispatch._registry))
    monkeypatch.setattr(dispatch, "_chosen", dispatch._chosen)


ARCHS = """
import torch, torchvision, timm
from torch import nn
from timm.models.layers import DropPath, to_2tuple, trunc_normal_
from einops import repeat
from kan import KANLinear
from utils import *
try:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
except:
    pass

class SS2D(nn.Module):
    def __init__(self, d_model):
        super().__init__()
        A = repeat(torch.arange(1., 17), "n -> d n", d=d_model)
        self.A_logs = nn.Parameter(A.contiguous())
    def forward(self, x):  # (B, H, W, C)
        u = x.flatten(1, 2).transpose(1, 2)
        state = u[:, :1].expand(-1, 16, -1)
        y = selective_scan_fn(u, u, -self.A_logs.exp(), state, state, None, z=None,
                              delta_softplus=True, return_last_state=False)
        return y.transpose(1, 2).view(x.shape)

class UKAN(nn.Module):
    def __init__(self, num_classes, input_channels=3, deep_supervision=False,
                 embed_dims=[256, 320, 512]):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, to_2tuple(3), padding=1)
        self.final = nn.Conv2d(4, num_classes, 1)
        trunc_normal_(self.final.weight)
    def forward(self, x):
        print("shape", x.shape)
        return self.final(self.conv(x))

class KM_UNet(UKAN):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ss2d = SS2D(4)
    def forward(self, x):
        x = self.conv(x).permute(0, 2, 3, 1)[:, ::8, ::8]
        y = self.ss2d(x).permute(0, 3, 1, 2)
        return nn.functional.interpolate(self.final(y), scale_factor=8)
"""


@pytest.fixture
def real_data():
    """Folder of the real archives."""
    value = os.environ.get("KMUNET_TEST_DATA")
    if not value:
        pytest.skip("KMUNET_TEST_DATA names no folder with the real archives")
    return Path(value)


@pytest.fixture
def published(tmp_path):
    """A checkout with archs.py, kan.py and utils.py."""
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "archs.py").write_text(ARCHS)
    kan = "from torch import nn\nclass KANLinear(nn.Linear): pass\n"
    (folder / "kan.py").write_text(kan)
    (folder / "utils.py").write_text("import argparse\n")
    return folder
