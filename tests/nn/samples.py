"""Models whose outputs depend on the image, and on all of their parts."""

import torch
from torch import nn

from kmunet.models import build_model


def trained(name, widths=(16, 24, 40), **options):
    """With statistics and weights that a training could leave.

    Statistics of images: with any others most of a ReLU's maps are 0 for all images.
    """
    torch.manual_seed(0)
    model = build_model(name, widths=widths, **options)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.3)
        norm.momentum = 0.5
    with torch.no_grad():
        for _ in range(8):
            model(torch.randn(2, 3, 64, 64))
    return model.eval()
