"""Efficient multi-scale attention (arXiv 2305.13563), "EMA" in KM-UNet's paper.

Channels are split into groups; in each, a 1x1 branch pooled along rows and columns
and a 3x3 branch weigh each other, and the sum gates every pixel of the group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kmunet.ops.attention import Weights, attend
from kmunet.ops.cpu import kernel_for
from kmunet.ops.cpu.native import Kernel


def largest_divisor(channels: int, at_most: int) -> int:
    """The largest divisor of `channels` that is not above `at_most`."""
    return next(n for n in range(at_most, 0, -1) if channels % n == 0)


class EfficientMultiScaleAttention(nn.Module):
    """(B, C, H, W) -> the same shape. Groups: the largest divisor of C up to `factor`.

    The published widths are multiples of 8 and have 8 groups.
    """

    def __init__(self, channels: int, factor: int = 8) -> None:
        super().__init__()
        self.groups = largest_divisor(channels, factor)
        width = channels // self.groups
        self.gn = nn.GroupNorm(width, width)
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        of = self._kernel(x)
        if of is None:
            return self.plain(x)
        return attend(of, x, self.weights(), self.gn.eps)

    def weights(self) -> Weights:
        """For the kernel, in its order."""
        mix, window, norm = self.conv1x1, self.conv3x3, self.gn
        assert mix.bias is not None
        assert window.bias is not None
        of_convolutions = (mix.weight, mix.bias, window.weight, window.bias)
        return Weights(*of_convolutions, norm.weight, norm.bias)

    def _kernel(self, x: Tensor) -> Kernel | None:
        """On a CPU, where all is float32, or x is bfloat16 by autocast."""
        if x.device.type != "cpu" or not x.numel():
            return None
        half = x.dtype == torch.bfloat16 and torch.is_autocast_enabled("cpu")
        single = self.gn.weight.dtype == torch.float32
        if not single or not (half or x.dtype == torch.float32):
            return None
        return kernel_for(x, *self.weights())

    def plain(self, x: Tensor) -> Tensor:
        """The same in torch's operations, as the paper has it: any device and dtype."""
        batch = x.shape[0]  # len(x) would be a constant of an exported program
        local = self._split(self._convolve(x))
        x = self._split(x)  # (B g, C/g, H, W)
        pooled = self.gn(x * self._gate(x))
        score = self._weigh(pooled, local) + self._weigh(local, pooled)
        out = x * score.sigmoid()
        return torch.unflatten(out, 0, (batch, self.groups)).flatten(1, 2)

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B groups, C / groups, H, W)."""
        return torch.unflatten(x, 1, (self.groups, -1)).flatten(0, 1)

    def _convolve(self, x: Tensor) -> Tensor:
        """conv3x3 on each group, the groups side by side.

        With the groups in the batch it has 2 channels in the first stage: 4 times
        the time on a CPU.
        """
        weight, bias = self.conv3x3.weight, self.conv3x3.bias
        assert bias is not None
        weight, bias = weight.repeat(self.groups, 1, 1, 1), bias.repeat(self.groups)
        return F.conv2d(x, weight, bias, padding=1, groups=self.groups)

    def _gate(self, x: Tensor) -> Tensor:
        """Row gate times column gate, (B g, C/g, H, W).

        Rows and columns are convolved apart, not in one tensor: of that, with one
        channel a group, torch's compiler gets the image's gradient wrong (2.13).
        """
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        gate: Tensor = self.conv1x1(rows).sigmoid() * self.conv1x1(columns).sigmoid()
        return gate

    @staticmethod
    def _weigh(query: Tensor, value: Tensor) -> Tensor:
        """Softmax of the query's channel means, times the value: (B g, 1, H, W)."""
        weights = query.mean((2, 3)).softmax(-1)
        summed = torch.bmm(weights[:, None], value.flatten(2))
        return torch.unflatten(summed, 2, value.shape[2:])
