"""Apply a registered model to a stack of images, as a consumer without our source does.

`python apply.py MODEL_URI IMAGES.npy OUT.npy`, in a process of its own: so a champion
runs with the code that it was registered with, not with today's.
"""

import logging
import sys

import mlflow.pyfunc
import numpy as np


def main(uri: str, images: str, out: str) -> None:
    """Write float32 probabilities (N, H, W) for uint8 images (N, H, W, 3)."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    model = mlflow.pyfunc.load_model(uri)
    stack = np.load(images, mmap_mode="r", allow_pickle=False)
    np.save(out, np.stack([model.predict(np.array(image)) for image in stack]))


if __name__ == "__main__":
    main(*sys.argv[1:])
