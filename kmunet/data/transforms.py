"""Augmentation declared in params.yaml: albumentations by name, one stream a sample.

The stream depends on (seed, epoch, image id) alone, never on worker or world size.
"""

import hashlib
import os
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmunet.errors import ConfigError

Pixels = NDArray[np.uint8]


class Transform:
    """Declared transforms as one call on an image and its mask."""

    def __init__(
        self, declared: Sequence[Mapping[str, Any]], seed: int, key: str = "augment"
    ) -> None:
        self._declared = declared
        self._seed = seed
        self._key = key
        self._compose = _compose(declared, key)

    def __call__(
        self, image: Pixels, mask: Pixels, *, epoch: int, image_id: str
    ) -> tuple[Pixels, Pixels]:
        """Image uint8 (S, S, 3) and mask (S, S) to the same shapes and types.

        Raises ConfigError where a declared transform changes them.
        """
        self._compose.set_random_state(*self._stream(epoch, image_id))
        done = self._compose(image=image, mask=mask)
        _require_same(done, image, self._key)
        return done["image"], done["mask"]

    def check(self, size: int) -> None:
        """Apply each transform alone at `size`. Raises ConfigError naming its key."""
        image = np.full((size, size, 3), 128, np.uint8)
        mask = np.zeros((size, size), np.uint8)
        for number, step in enumerate(self._compose.transforms):
            key = f"{self._key}.{number}"
            try:
                done = step(image=image, mask=mask, force_apply=True)
            except Exception as error:
                raise ConfigError(_fault(f"{key}.args", step, error)) from None
            _require_same(done, image, key)

    def __reduce__(self) -> tuple[Any, ...]:
        return Transform, (self._declared, self._seed, self._key)

    def _stream(
        self, epoch: int, image_id: str
    ) -> tuple[np.random.Generator, random.Random]:
        # One shared pair of generators. `set_random_seed` gives each transform its
        # own with the same seed: flips and rotations then always fire together.
        text = f"{self._seed}:{epoch}:{image_id}"
        digest = hashlib.sha256(text.encode()).digest()
        key = np.frombuffer(digest[:16], "<u8")
        draws = random.Random(int.from_bytes(digest[16:], "little"))
        return np.random.Generator(np.random.Philox(key=key)), draws


def build_transform(
    declared: Iterable[Any], seed: int, key: str = "augment"
) -> Transform | None:
    """Transform of `[{name, args}, ...]` (also params.transforms()); None if empty.

    `key` is where params.yaml declares it: `presets.paper`. Raises ConfigError naming
    KEY.N.name or KEY.N.args.
    """
    plain = [dict(item) for item in declared]
    return Transform(plain, seed, key) if plain else None


def _compose(declared: Sequence[Mapping[str, Any]], key: str) -> Any:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    steps = [
        _step(albumentations, f"{key}.{n}", item) for n, item in enumerate(declared)
    ]
    return albumentations.Compose(steps)


def _step(albumentations: Any, key: str, item: Mapping[str, Any]) -> Any:
    name = str(item["name"])
    kind = getattr(albumentations, name, None)
    bases = (albumentations.ImageOnlyTransform, albumentations.DualTransform)
    if not (isinstance(kind, type) and issubclass(kind, bases)) or kind in bases:
        raise ConfigError(
            f"params.yaml: {key}.name: '{name}' is no image transform of "
            f"albumentations {albumentations.__version__}; see its list of transforms"
        )
    try:
        with warnings.catch_warnings():
            # an unknown argument is only warned of, and some take no `strict=True`;
            # names of older versions are warned of as deprecated
            for kinds in (UserWarning, DeprecationWarning, FutureWarning):
                warnings.simplefilter("error", kinds)
            return kind(**item.get("args", {}))
    except Exception as error:
        raise ConfigError(_fault(f"{key}.args", kind, error)) from None


def _fault(key: str, step: Any, error: Exception) -> str:
    name = step.__name__ if isinstance(step, type) else type(step).__name__
    reason = "; ".join(line.strip() for line in str(error).splitlines()[:3])
    return f"params.yaml: {key}: {name}: {reason}"


def _require_same(done: Mapping[str, Any], image: Pixels, key: str) -> None:
    new_image, new_mask = done["image"], done["mask"]
    if new_image.shape != image.shape or new_mask.shape != image.shape[:2]:
        raise ConfigError(
            f"params.yaml: {key}: an image of {image.shape} came out as "
            f"{tuple(new_image.shape)}; remove the transform that changes the size"
        )
    if new_image.dtype != np.uint8 or new_mask.dtype != np.uint8:
        raise ConfigError(
            f"params.yaml: {key}: an image came out as {new_image.dtype}; remove what "
            "converts it (pixels are normalised after augmentation)"
        )
