"""Predictor: any uint8 image in, probabilities at its own size out."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kmunet.errors import DataError
from kmunet.inference import Predictor
from kmunet.models import MODELS, build_model
from kmunet.nn.fused import fuse

RNG = np.random.default_rng(2)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(trained) -> Predictor:
    return Predictor.load(trained)


def test_is_the_model_on_the_normalized_image(predictor, trained):
    image = noise(32, 32, 3)
    model = build_model(**predictor.spec["model"]).eval()
    model.load_state_dict(load_file(trained / "model.safetensors"))
    seen = predictor.spec["input"]
    x = (image / 255.0 - np.array(seen["mean"])) / np.array(seen["std"])
    with torch.no_grad():
        logits = model(torch.from_numpy(x.transpose(2, 0, 1)[None]).float())
    expected = torch.sigmoid(logits)[0, 0].numpy()
    np.testing.assert_allclose(predictor(image), expected, atol=1e-4)
    assert np.ptp(expected) > 0.05, "else the other tests say nothing"


@pytest.fixture
def tf32():
    """As torch has it of itself, or a user chose it; afterwards as torch has it."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


def test_float32_is_no_tf32_as_in_training(trained, tf32):
    Predictor.load(trained)
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    "shape",
    [(32, 32), (32, 32, 1), (50, 41, 3), (7, 90, 4), (20, 20, 3), (1, 1), (200, 33, 1)],
    ids=str,
)
def test_any_size_and_channels(predictor, shape):
    probabilities = predictor(noise(*shape))
    assert probabilities.shape == shape[:2]
    assert probabilities.dtype == np.float32
    assert 0.0 <= probabilities.min() <= probabilities.max() <= 1.0


def test_grey_is_rgb_of_equal_channels_and_alpha_is_ignored(predictor):
    grey = noise(40, 30)
    rgb = np.stack([grey] * 3, axis=-1)
    expected = predictor(rgb)
    np.testing.assert_array_equal(predictor(grey), expected)
    np.testing.assert_array_equal(predictor(grey[..., None]), expected)
    rgba = np.concatenate([rgb, noise(40, 30, 1)], axis=-1)
    np.testing.assert_array_equal(predictor(rgba), expected)


def test_colour_channels_are_not_exchangeable(predictor):
    image = noise(32, 32, 3)
    assert np.abs(predictor(image) - predictor(image[..., ::-1])).max() > 1e-4


def test_resizes_there_and_back(predictor):
    image = noise(64, 96, 3)
    small = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
    back = cv2.resize(predictor(small), (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(predictor(image), back, atol=1e-6)


def test_a_batch_is_its_images_one_by_one(predictor):
    images = noise(3, 40, 40, 3)
    batch = predictor.batch(images)
    assert batch.shape == (3, 40, 40)
    assert batch.dtype == np.float32
    for image, probabilities in zip(images, batch, strict=True):
        np.testing.assert_allclose(predictor(image), probabilities, atol=1e-4)
    assert predictor.batch(images[:0]).shape == (0, 40, 40)


def test_views_and_read_only_arrays_are_fine(predictor):
    image = noise(32, 32, 3)
    flipped = image[::-1]
    image.setflags(write=False)
    np.testing.assert_array_equal(predictor(flipped), predictor(flipped.copy()))


def test_predicting_leaves_no_trace(predictor):
    assert not predictor.model.training
    image = noise(32, 32)
    np.testing.assert_array_equal(predictor(image), predictor(image))


def test_counts_parameters(predictor):
    model = build_model(**predictor.spec["model"])
    assert predictor.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8), np.float32), "float32: expects uint8"),
        (np.zeros((8, 8), np.uint16), "uint16: expects uint8"),
        (np.zeros((8, 8), bool), "bool: expects uint8"),
        ([[0, 1], [1, 0]], "list: expects uint8"),
        (np.zeros(8, np.uint8), r"shape \(8,\): expects \(H, W\)"),
        (np.zeros((8, 8, 2), np.uint8), r"shape \(8, 8, 2\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "one image a call"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
)
def test_what_is_no_8_bit_image_is_refused(predictor, image, message):
    with pytest.raises(DataError, match=message):
        predictor(image)


def test_what_is_no_batch_is_refused(predictor):
    with pytest.raises(DataError, match=r"batch expects uint8 \(N, H, W, 3\)"):
        predictor.batch(noise(8, 8, 3))


def test_needs_neither_pydantic_nor_the_data_and_tracking_packages():
    """It ships inside registered models, whose consumers install little."""
    unwanted = ["pydantic", "albumentations", "pandas", "mlflow", "ray", "matplotlib"]
    code = (
        "import sys, kmunet.inference\n"
        f"print([name for name in {unwanted} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
    assert answer.stderr == ""


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_any_model_is_loaded(model_folder, name):
    """What training exports for it; a registered model loads the same way."""
    card = json.loads((model_folder / "model.json").read_text())
    arguments = card["model"] | {"name": name, "widths": [16, 24, 32]}
    torch.manual_seed(0)
    model = build_model(**arguments).eval()
    save_file(model.state_dict(), model_folder / "model.safetensors")
    (model_folder / "model.json").write_text(json.dumps(card | {"model": arguments}))
    loaded = Predictor.load(model_folder)
    image = noise(40, 50, 3)
    assert loaded(image).shape == (40, 50)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = fuse(model)(x)
        torch.testing.assert_close(loaded.model(x), expected, rtol=0, atol=0)
