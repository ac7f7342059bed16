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
            return self._table(model_input)
        if isinstance(model_input, list | tuple):
            return [self.predictor(np.asarray(image)) for image in model_input]
        images = np.asarray(model_input)
        if images.ndim == 4 and not len(images):
            return self.predictor(np.zeros(images.shape[1:], images.dtype))[None][:0]
        if images.ndim == 4:
            return np.stack([self.predictor(image) for image in images])
        return self.predictor(images)

    def _table(self, table: Any) -> list[Any]:
        """Of each file. As training decodes: 16 bits scaled, EXIF's turn applied."""
        from kmunet.data.decode import decode_image
        from kmunet.errors import DataError

        if "image" not in table.columns:
            named = ", ".join(map(str, table.columns))
            raise DataError(f"the table has no column 'image', only: {named}")
        found = []
        for row, cell in table["image"].items():
            name = f"column 'image', row {row}"
            pixels = decode_image(_file(cell, name), name)
            found.append(list(self.predictor(pixels).tolist()))
        return found


def _file(cell: Any, name: str) -> bytes:
    """The bytes of a cell. DataError where it holds none."""
    from kmunet.errors import DataError

    encoded = isinstance(cell, str)
    try:
        return base64.b64decode(cell) if encoded else bytes(memoryview(cell))
    except TypeError:
        raise DataError(
            f"{name}: expects the bytes of a file (PNG, JPEG, TIFF; base64 over REST), "
            f"got {type(cell).__name__}; read the file, or leave the row out"
        ) from None
    except ValueError as error:
        raise DataError(f"{name}: not base64 ({error}); encode the file anew") from None


set_model(SegmentationModel())
