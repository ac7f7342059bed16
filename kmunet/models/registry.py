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
from kmunet.models.presence import PresenceGate, evidence_maps
from kmunet.models.u_kan import UKAN
from kmunet.widths import check_channels

BASELINES: dict[str, Callable[[int, int], nn.Module]] = {
    "unet": unet,
    "attention_unet": attention_unet,
    "unet_plus_plus": unet_plus_plus,
    "swin_unetr": swin_unetr,
}
MODELS = ("km_unet", "u_kan", *BASELINES)
_OF_ALL = ("presence",)
_OF_BOTH = (*_OF_ALL, "widths", "kan", "drop_path", "deep_supervision")
# The arguments of `build_model` that shape a model, beside channels and classes.
SHAPED_BY: dict[str, tuple[str, ...]] = {
    "km_unet": (*_OF_BOTH, "ss2d", "attention", "skip_gain", "layer_scale"),
    "u_kan": _OF_BOTH,
    **dict.fromkeys(BASELINES, _OF_ALL),
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
    presence: bool = False,
) -> nn.Module:
    """Build a network (B, in_channels, H, W) -> logits (B, num_classes, H, W).

    With `presence` it learns too whether there is anything at all (`PresenceGate`).
    SHAPED_BY says which arguments shape which of them; the baselines have the widths
    of their papers. Raises ConfigError naming the key.
    """
    check_channels(in_channels, num_classes)
    maps = num_classes + (evidence_maps(num_classes) if presence else 0)
    more = (drop_path, deep_supervision)
    network: nn.Module
    if name == "km_unet":
        parts = (widths, kan, ss2d, attention)
        network = KMUNet(in_channels, maps, *parts, *more, skip_gain, layer_scale)
    elif name == "u_kan":
        network = UKAN(in_channels, maps, widths, kan, *more)
    elif deep_supervision:
        raise ConfigError(f"model.deep_supervision: {name} has none; set it to false")
    elif name in BASELINES:
        network = BASELINES[name](in_channels, maps)
    else:
        known = ", ".join(MODELS)
        raise ConfigError(f"model.name: unknown model '{name}'; known: {known}")
    return PresenceGate(network, num_classes) if presence else network
