"""Where tensors live, "auto" on a GPU if torch sees one, and what float32 is there."""

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


def full_float32() -> None:
    """Have float32 mean it in this process: in training and wherever models are scored.

    Of itself torch computes a GPU's convolutions in TF32 (10 bits), its products in
    float32. These settings keep fp32_precision, the newer one, in step; with that one
    alone set, torch raises on reading these.
    """
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
