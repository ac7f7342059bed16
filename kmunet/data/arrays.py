"""Read .npy files as arrays and nothing else: nothing in them is run."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def load_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """The array of an .npy file. OSError or ValueError for anything else."""
    found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    if not isinstance(found, np.ndarray):  # a zip file, whose members are read later
        found.close()
        raise ValueError(f"{path.name} is an archive, not an array")
    return found
