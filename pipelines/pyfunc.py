"""The registered model as MLflow loads it (models from code): images in, probabilities
out. This file and `kmunet` travel inside the model; a consumer needs neither.

The consumer's kmunet may be another version or absent: MLflow puts the model's own
copy first on the path before this file runs.
"""

import base64
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class SegmentationModel(PythonModel):  # type: ignore[misc]
    """Segments uint8 images of any size.

    predict takes one image (H, W), (H, W, 3) or (H, W, 4), a batch (N, H, W, C), a
    list of images, or a table with a column "image" of the bytes of files (PNG, JPEG,
    TIFF; base64 over REST). It returns float32 probabilities (H, W), or a list or batch
    of these; for a model of K > 1 classes (K + 1, H, W), the background first.
    """

    def load_context(self, context: Any) -> None:
        """Load weights only: nothing in the artifact is executed but this package."""
        from kmunet.inference import Predictor

        self.predictor = Predictor.load(Path(context.artifacts["model"]))

    # A bare np.ndarray is the hint that MLflow does not turn into a schema: images of
    # any size, lists and tables pass as they are.
    def predict(
        self,
        context: Any,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> Any:
        if hasattr(model_input, "columns"):
            return [self._decode(cell) for cell in model_input["image"]]
        if isinstance(model_input, list | tuple):
            return [self.predictor(np.asarray(image)) for image in model_input]
        images = np.asarray(model_input)
        if images.ndim == 4:
            return np.stack([self.predictor(image) for image in images])
        return self.predictor(images)

    def _decode(self, cell: bytes | str) -> list[Any]:
        """As training decodes: 16 bits scaled, EXIF's orientation applied."""
        from kmunet.data.decode import decode_image

        data = base64.b64decode(cell) if isinstance(cell, str) else bytes(cell)
        return list(self.predictor(decode_image(data, "image")).tolist())


set_model(SegmentationModel())
