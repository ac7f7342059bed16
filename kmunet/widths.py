"""What a model of the U-KAN family can be built with, checked once."""

from collections.abc import Sequence

from kmunet.errors import ConfigError


def check_widths(widths: Sequence[int]) -> tuple[int, int, int]:
    """Three positive widths, the first a multiple of 8. Raises ConfigError.

    The convolution stages have 1/8, 1/4 and all of the first width.
    """
    values = tuple(widths)
    if len(values) != 3 or not all(isinstance(w, int) and w > 0 for w in values):
        raise ConfigError(
            f"model.widths: need three positive integers, got {list(values)}"
        )
    if values[0] % 8:
        raise ConfigError(
            f"model.widths: the first must be a multiple of 8, got {values[0]}"
        )
    return values[0], values[1], values[2]


def check_channels(in_channels: int, num_classes: int) -> None:
    """Raises ConfigError unless both are positive."""
    for name, value in (("in_channels", in_channels), ("num_classes", num_classes)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name}: need a positive integer, got {value!r}")
