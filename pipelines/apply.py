"""Apply a registered model to a stack of images, as a consumer without our source does.

`python apply.py MODEL_URI IMAGES.npy OUT.npy`, in a process of its own: so a champion
runs with the code that it was registered with, not with today's.
"""

import logging
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np


def main(uri: str, images: str, out: str) -> None:
    """Write float32 probabilities (N, ...) for uint8 images (N, H, W, 3), N > 0."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    model = mlflow.pyfunc.load_model(uri)
    stack = np.load(images, mmap_mode="r", allow_pickle=False)
    with Path(out).open("wb") as file:  # an image at a time: there may be many
        for number, image in enumerate(stack):
            found = np.asarray(model.predict(np.array(image)), "<f4")
            if number == 0:
                shape = (len(stack), *found.shape)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(found.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
