"""A trained model on images as they come: uint8 of any size in, probabilities out.

Reads the folder that training writes (model.json, model.safetensors) and needs torch,
numpy, OpenCV and safetensors alone, because it travels inside registered models.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kmunet.data.resize import resize_image, resize_maps
from kmunet.device import full_float32
from kmunet.errors import DataError
from kmunet.inference.folder import read_model, read_spec
from kmunet.nn.fused import fuse

Image = NDArray[np.uint8]
Labels = NDArray[np.uint8]
Probabilities = NDArray[np.float32]


class Predictor:
    """Probabilities of images from a model of 3 channels.

    With one class they are the foreground's, (H, W); with K classes (K + 1, H, W), the
    background first. `classes` has the names.
    """

    def __init__(
        self,
        model: nn.Module,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device = "cpu",
        spec: dict[str, Any] | None = None,
    ) -> None:
        """`size`: side of the square that the model sees; `mean`, `std`: RGB, of 0..1.

        `spec` is model.json as read, for who wants to know more about the model. As in
        training, a GPU computes in float32 and not TF32 from here on, in all of this
        process: else a model had one score of `fit` and another one here.
        """
        full_float32()
        self.device = torch.device(device)
        self.model = model.eval().to(self.device)
        learnt = (p.numel() for p in model.parameters() if p.requires_grad)
        self.parameters = sum(learnt)  # number of trainable parameters
        self.size = size
        self.spec = spec or {}
        self.classes: tuple[str, ...] = tuple(self.spec.get("classes", ["lesion"]))
        self._mean = torch.tensor(mean, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=self.device).view(1, 3, 1, 1)

    @classmethod
    def load(cls, folder: Path, device: str | torch.device = "cpu") -> "Predictor":
        """Read a model folder. CheckpointError names the file or key at fault."""
        folder = Path(folder)
        spec = read_spec(folder / "model.json")
        model = read_model(folder / "model.safetensors", spec["model"])
        seen = spec["input"]
        found = cls(model, seen["size"], seen["mean"], seen["std"], device, spec)
        fuse(found.model)
        return found

    def __call__(self, image: Image) -> Probabilities:
        """Probabilities of an image (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).

        Alpha is ignored, grey becomes RGB. DataError for another type or shape.
        """
        probabilities: Probabilities = self.batch(as_rgb(image)[None])[0]
        return probabilities

    def batch(self, images: Image) -> Probabilities:
        """Probabilities (N, ...) of RGB images (N, H, W, 3) of one size."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise DataError(
                "batch expects uint8 (N, H, W, 3), got "
                f"{images.dtype} {images.shape}; convert the images to 8-bit RGB first"
            )
        height, width = images.shape[1:3]
        if not len(images):
            several = len(self.classes) > 1
            maps = (len(self.classes) + 1,) if several else ()
            return np.zeros((0, *maps, height, width), np.float32)
        squares = np.stack([self._square(image) for image in images])
        return np.stack([resize_maps(m, height, width) for m in self._forward(squares)])

    def _square(self, image: Image) -> Image:
        if image.shape[:2] == (self.size, self.size):
            return image
        return resize_image(np.ascontiguousarray(image), self.size, self.size)

    @torch.inference_mode()
    def _forward(self, squares: Image) -> Probabilities:
        # (N, S, S, 3) -> (N, S, S), or (N, K + 1, S, S)
        x = torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2)
        x = (x.float() / 255.0 - self._mean) / self._std
        logits: Tensor = self.model(x.contiguous()).float()
        one = logits.shape[1] == 1
        maps: Probabilities = (
            (logits.sigmoid()[:, 0] if one else logits.softmax(1)).cpu().numpy()
        )
        return maps


def labels(probabilities: Probabilities, threshold: float) -> Labels:
    """What a `Predictor`'s probabilities of an image say: uint8 (H, W), 0 or the class.

    (H, W): 1 above (not at) `threshold`. (K + 1, H, W): the most probable.
    """
    if probabilities.ndim == 2:
        return (probabilities > threshold).astype(np.uint8)
    classes: Labels = probabilities.argmax(0).astype(np.uint8)
    return classes


def as_rgb(image: Image) -> Image:
    """An image of 1, 3 or 4 channels as RGB uint8 (H, W, 3). DataError otherwise."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise DataError(
            f"the image is {kind}: expects uint8 (0..255); "
            "scale it to 8 bits first, for example (255 * x).round().astype('uint8')"
        )
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3, 4) or 0 in image.shape:
        raise DataError(
            f"the image has shape {image.shape}: expects (H, W), (H, W, 1), "
            "(H, W, 3) or (H, W, 4), one image a call"
        )
    if image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    return image[..., :3]
