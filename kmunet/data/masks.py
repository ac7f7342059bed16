"""What the values of a mask mean: one class, instance ids, or classes by value.

Binary masks cut at half of the full value (127 of 255): a threshold at 0 would take
the grey edges of CVC-ClinicDB in. Whole areas in between are no edges, but ids or a
border to ignore: refused. GlaS stores ids 1..N: every one is foreground.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from kmunet.data.decode import Pixels, decode_values
from kmunet.errors import ConfigError, MaskValueError

Value = int | tuple[int, int, int]


@dataclass(frozen=True)
class MaskForm:
    """How masks are read. `values`: of class 1, 2, ... (colours or numbers)."""

    kind: Literal["binary", "instances", "classes"] = "binary"
    values: tuple[Value, ...] = ()


BINARY = MaskForm()
INSTANCES = MaskForm("instances")


def class_form(classes: tuple[str, ...], values: tuple[int | str, ...]) -> MaskForm:
    """Form of masks that hold `classes`: 1, 2, ... in order where no values are given.

    Raises ConfigError where values are not one a class, or are no number or #rrggbb.
    """
    if not values:
        count = len(classes)
        return MaskForm("classes", tuple(range(1, count + 1))) if count > 1 else BINARY
    if len(values) != len(classes):
        raise ConfigError(
            f"sources: values: {len(values)} for {len(classes)} classes; give one each"
        )
    parsed = tuple(_parse(value) for value in values)
    if len(set(parsed)) < len(parsed) or len({type(v) for v in parsed}) > 1:
        raise ConfigError("sources: values: all numbers or all colours, each once")
    return MaskForm("classes", parsed)


def decode_mask(data: bytes, name: str, form: MaskForm = BINARY) -> tuple[Pixels, bool]:
    """Class index uint8 (H, W), 0 the background, and whether values lay in between.

    Raises MaskValueError for values beyond the form, UnreadableError naming the file.
    """
    colours = bool(form.values) and isinstance(form.values[0], tuple)
    numbers = "index" if form.kind == "classes" else "mask"
    values = decode_values(data, name, "colour" if colours else numbers)
    if colours:
        return _by_colour(values, name, form.values), False
    if values.ndim == 3:
        values = values[:, :, :3].max(axis=2)
    if form.kind == "classes":
        return _by_value(values, name, form.values), False
    if form.kind == "instances" and _holds_ids(values):
        return (values > 0).astype(np.uint8), False
    return _binary(values, name)


def _binary(values: NDArray[Any], name: str) -> tuple[Pixels, bool]:
    top, low = float(values.max()), float(values.min())
    full = next((f for f in (1, 255, 65535) if top <= f), None)
    if full is None or low < 0 or (top > 0 and 2 * top <= full):
        raise MaskValueError(
            f"{name}: mask values {low:g} to {top:g}; expected 0 and 1, or 0 and 255 "
            "(declare 'classes' for class ids; merge instance ids first)"
        )
    mask = values > full / 2
    grey = bool(((values != 0) & (values != top)).any())
    area = _area_between(values) if grey else None
    if area is not None:
        raise MaskValueError(
            f"{name}: mask values between 0 and {top:g} fill areas, such as {area:g}, "
            "and would be cut at half: declare 'classes' with 'values' for class ids, "
            "merge instance ids first, or set what is to be ignored to 0"
        )
    return mask.astype(np.uint8), grey


def _area_between(values: NDArray[Any]) -> float | None:
    """The commonest value of areas that are no edge, where there is too much of them.

    Edges, blurred, resized or out of a JPEG, are nowhere flat 5 pixels wide, except
    close to 0: a JPEG's background, ghosts in CVC-ClinicDB (up to 28 % of the rest,
    where edges are grey too).
    """
    values = values.astype(np.float32 if values.dtype.kind == "f" else np.uint16)
    window = np.ones((5, 5), np.uint8)
    flat = cv2.erode(values, window) == cv2.dilate(values, window)
    share = values / np.float32(values.max())
    low = flat & (share > 0) & (share <= 0.1)
    middle = flat & (share > 0.1) & (share < 0.9)
    marked = np.count_nonzero(values)
    if 20 * np.count_nonzero(middle) > marked:
        return _commonest(values[middle])
    edges = bool(((share > 0.1) & (share < 1)).any())
    background = np.count_nonzero(flat & (values == 0))
    enough = marked * (0.5 if edges else 0.1)
    if np.count_nonzero(low) > enough and 10 * background > values.size:
        return _commonest(values[low])
    return None


def _commonest(values: NDArray[Any]) -> float:
    found, counts = np.unique(values, return_counts=True)
    return float(found[counts.argmax()])


def _holds_ids(values: NDArray[Any]) -> bool:
    """Ids run from 1 without many gaps; a copy in black and white has 255 or 65535."""
    if values.dtype.kind not in "iub" or values.min() < 0:
        return False
    top = int(values.max())
    return top not in (255, 65535) or len(np.unique(values)) > top // 2


def _by_value(values: NDArray[Any], name: str, wanted: tuple[Value, ...]) -> Pixels:
    classes = np.zeros(values.shape, np.uint8)
    for index, value in enumerate(wanted, start=1):
        classes[values == value] = index
    beyond = np.unique(values[(classes == 0) & (values != 0)])
    if beyond.size:
        raise MaskValueError(_beyond(name, [f"{value:g}" for value in beyond], wanted))
    return classes


def _by_colour(values: NDArray[Any], name: str, wanted: tuple[Value, ...]) -> Pixels:
    if values.ndim == 2:
        values = np.repeat(values[:, :, None], 3, axis=2)
    colours = values[:, :, :3]
    classes = np.zeros(colours.shape[:2], np.uint8)
    for index, value in enumerate(wanted, start=1):
        classes[(colours == np.asarray(value)).all(axis=2)] = index
    rest = colours[(classes == 0) & colours.any(axis=2)]
    if rest.size:
        found = np.unique(rest, axis=0)
        raise MaskValueError(_beyond(name, [_hex(colour) for colour in found], wanted))
    return classes


def _beyond(name: str, found: list[str], wanted: tuple[Value, ...]) -> str:
    known = [
        _hex(value) if isinstance(value, tuple) else str(value) for value in wanted
    ]
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"{name}: mask values {', '.join(found[:5])}{more} beyond the declared classes "
        f"(0 is the background, classes are {', '.join(known)}); correct the mask, or "
        "'classes' and 'values'"
    )


def _parse(value: int | str) -> Value:
    if isinstance(value, str) and value.lstrip("-").isdigit():
        value = int(value)
    if isinstance(value, int) and 0 < value <= 65535:
        return value
    try:
        if isinstance(value, str) and len(value) == 7 and value[0] == "#":
            red, green, blue = bytes.fromhex(value[1:])
            return red, green, blue
    except ValueError:
        pass
    raise ConfigError(
        f"sources: values: '{value}' is no number of 1 to 65535 and no colour #rrggbb"
    )


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{int(part):02x}" for part in colour)
