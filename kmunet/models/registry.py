"""Models by name: `build_model`."""

from collections.abc import Callable, Sequence

from torch import nn

from kmunet.errors import ConfigError
from kmunet.models.baselines import (
    attention_unet,
    swin_unetr,
    unet,
    unet_plus_plus,
)
from kmunet.models.km_unet import KMUNet
from kmunet.models.u_kan import UKAN

BASELINES: dict[str, Callable[[int, int], nn.Module]] = {
    "unet": unet,
    "attention_unet": attention_unet,
    "unet_plus_plus": unet_plus_plus,
    "swin_unetr": swin_unetr,
}
MODELS = ("km_unet", "u_kan", *BASELINES)
_OF_BOTH = ("widths", "kan", "drop_path", "deep_supervision")
# The arguments of `build_model` that shape a model, beside channels and classes.
SHAPED_BY: dict[str, tuple[str, ...]] = {
    "km_unet": (*_OF_BOTH, "ss2d", "attention", "skip_gain", "layer_scale"),
    "u_kan": _OF_BOTH,
    **dict.fromkeys(BASELINES, ()),
}


def build_model(
    name: str,
    *,
    in_channels: int = 3,
    num_classes: int = 1,
    widths: Sequence[int] = (128, 160, 256),
    kan: bool = True,
    ss2d: bool = True,
    attention: bool = True,
    drop_path: float = 0.0,
    deep_supervision: bool = False,
    skip_gain: float = 1.0,
    layer_scale: float | None = None,
) -> nn.Module:
    """Build a network (B, in_channels, H, W) -> logits (B, num_classes, H, W).

    SHAPED_BY says which arguments shape which of them; the baselines have the widths
    of their papers. Raises ConfigError naming the key.
    """
    more = (drop_path, deep_supervision)
    if name == "km_unet":
        parts = (widths, kan, ss2d, attention)
        return KMUNet(in_channels, num_classes, *parts, *more, skip_gain, layer_scale)
    if name == "u_kan":
        return UKAN(in_channels, num_classes, widths, kan, *more)
    if deep_supervision:
        raise ConfigError(f"model.deep_supervision: {name} has none; set it to false")
    if name in BASELINES:
        return BASELINES[name](in_channels, num_classes)
    raise ConfigError(f"model.name: unknown model '{name}'; known: {', '.join(MODELS)}")
