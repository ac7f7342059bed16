"""Any image size: pad at the right and the bottom by repeating the border."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """(B, C, H, W) to the next multiples of `multiple`; unchanged if it fits already.

    Crop with `[..., :H, :W]`. Works for any H, W > 0, also below `multiple`.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x
    return F.pad(x, (0, right, 0, bottom), mode="replicate")
