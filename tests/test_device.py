"""The device: what is asked for, or an error that names the key."""

import pytest
import torch

from kmunet.device import choose_device
from kmunet.errors import ConfigError


def test_auto_takes_what_there_is():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == expected
    assert choose_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_a_gpu_is_an_error():
    with pytest.raises(ConfigError, match=r"train\.device is 'cuda'"):
        choose_device("cuda")
