"""Where tensors live: "auto" takes a GPU if torch sees one."""

import torch

from kmunet.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device for train.device: "auto", "cpu" or "cuda".

    Raises ConfigError where CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "params.yaml: train.device is 'cuda' and this torch sees no GPU: "
            "set it to 'auto' or 'cpu'"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
