"""The whole model and `fit` on a GPU: right, and the same bits again.

`python3 -m benchmarks.gpu_model` needs torch, numpy, safetensors and pytest (for the
tests' golden values). At 64 pixels it holds KM-UNet's logits, loss and gradients
against float64 on the CPU and against the published code's, lets `fit` do three steps
twice, and once with a stop between them, and prints what torch has no deterministic
version of. The table comes last; exit code 1 if something differs.
"""

import argparse
import hashlib
import importlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from kmunet.device import choose_device
from kmunet.errors import TrainingStoppedError
from kmunet.models import build_model
from kmunet.ops import backend
from kmunet.training import LocalReporter, TrainingData, fit
from kmunet.training.determinism import make_deterministic

SIZE, IMAGES = 64, 2  # as golden values have them
BATCH, STEPS = 4, 3
# Errors relative to norms; of rounding alone a CPU has 1e-5, 5e-8, 4e-5 and 2e-3.
FLOAT32 = {"logits": 1e-4, "loss": 1e-5, "gradients": 2e-4, "every gradient": 1e-2}
# Times the CPU's own errors in bfloat16. These weights make them large, of gradients
# half of all: only gross errors show there, and the contract tests hold the scans.
BF16 = 2.0
SMALLEST = 1e-4  # of the largest gradient's norm: smaller ones are held against this
NOT_DETERMINISTIC = "does not have a deterministic implementation"
TRAIN = {
    "seed": 1029, "epochs": 1, "batch_size": BATCH, "optimizer": "adamw", "lr": 1e-3,
    "kan_lr": 1e-2, "min_lr": 1e-5, "warmup": 0, "weight_decay": 1e-4, "clip": 1.0,
    "grid_updates": 1, "accumulate": 1, "ema_decay": 0.9, "loss": "bce_dice",
    "threshold": 0.5, "scan_backend": "auto", "compile": False, "threads": 1,
    "loader_workers": 0, "patience": None, "max_steps": None, "max_minutes": None,
    "checkpoint_steps": None,
}  # fmt: skip


class Row(NamedTuple):
    """An error and its bound; `good` where that is not all."""

    what: str
    error: float
    bound: float

    @property
    def good(self) -> bool:
        return self.error <= self.bound  # not where it is NaN


class Noise:
    """`Samples`: noise with a bright square, by the position alone."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        stream = np.random.default_rng([self.seed, key[1]])
        image = stream.integers(0, 120, (3, SIZE, SIZE), dtype=np.uint8)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        top, left = stream.integers(0, SIZE // 2, 2)
        mask[top : top + 24, left : left + 24] = 1
        image += 100 * mask
        return {"image": torch.from_numpy(image), "mask": torch.from_numpy(mask)}


class Stopped(LocalReporter):
    """Stops after the second step."""

    asked = 0

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == STEPS - 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    device = choose_device(parser.parse_args(arguments).device)
    make_deterministic(0, TRAIN["threads"])  # type: ignore[arg-type]
    with told_not_deterministic():
        rows = [*model_rows(device), *fit_rows(device)]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, scan: {backend(device.type)}")
    for row in rows:
        verdict = "" if row.good else "  DIFFERS"
        print(f"{row.what:44} {row.error:10.2e}  at most {row.bound:g}{verdict}")
    differing = sum(not row.good for row in rows)
    print(f"{differing} of {len(rows)} differ" if differing else "all right")
    return int(differing > 0)


@contextmanager
def told_not_deterministic() -> Iterator[None]:
    """Print what torch warns of, once each, at the end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    found = {str(w.message).split(NOT_DETERMINISTIC)[0].strip() for w in caught
             if NOT_DETERMINISTIC in str(w.message)}  # fmt: skip
    for operation in sorted(found):
        print(f"no deterministic version: {operation}")


def model_rows(device: torch.device) -> list[Row]:
    """Against float64 of the same rounded weights, and against the published code."""
    golden = importlib.import_module("tests.golden.conftest")
    with np.load(golden.FILE) as stored:
        given = golden.Golden({key: stored[key] for key in stored.files})
    image = given.image(IMAGES, SIZE, torch.float32)
    mask = given.mask(IMAGES, SIZE, torch.float32)

    def exact(bf16: bool) -> Found:
        # Norms over the few pixels of a batch make any rounding of bfloat16 large.
        model = given.model(torch.float32).double().train(not bf16)
        return computed(model, image.double(), mask.double())

    def step(where: torch.device, bf16: bool) -> Found:
        model = placed(given.model(torch.float32), where).train(not bf16)
        with torch.autocast(where.type, torch.bfloat16, enabled=bf16):
            return computed(model, image.to(where), mask.to(where))

    full, truth, evaluated = step(device, False), exact(False), exact(True)
    half, of_cpu = (
        errors(step(where, True), evaluated) for where in (device, torch.device("cpu"))
    )
    return [
        *compared("float32", errors(full, truth), FLOAT32),
        *golden_rows(full, given.values),
        *compared(
            "bfloat16",
            half,
            {
                "logits": BF16 * of_cpu["logits"],
                "loss": max(1e-2, BF16 * of_cpu["loss"]),  # it may agree by chance
                "gradients": BF16 * of_cpu["gradients"],
            },
        ),
    ]


def errors(found: "Found", truth: "Found") -> dict[str, float]:
    return {
        "logits": relative(found.logits, truth.logits),
        "loss": relative(found.loss, truth.loss),
        "gradients": relative(as_one(found.gradients), as_one(truth.gradients)),
        "every gradient": worst(found.gradients, truth.gradients),
    }


def compared(
    name: str, found: dict[str, float], bounds: dict[str, float]
) -> Iterator[Row]:
    for what, bound in bounds.items():
        yield Row(f"{name}, {what}, to float64", found[what], bound)


def golden_rows(found: "Found", values: Mapping[str, Any]) -> list[Row]:
    """float32 against the published code's float64, with the tests' bounds."""
    of = dict(zip(map(str, values["grad_names"]), values["grad_norms"], strict=True))
    norms = [
        abs(float(found.gradients[name].norm()) / norm - 1)
        for name, norm in of.items()
        if norm > 1e-3  # before a batch norm a bias has none
    ]
    return [
        Row(
            "float32, logits, to the published code's",
            float((found.logits - torch.tensor(values["train_64"])).abs().max()),
            1e-4,
        ),
        Row(
            "float32, loss, to the published code's",
            abs(float(found.loss) / float(values["loss_64"]) - 1),
            1e-5,
        ),
        Row("float32, norms of gradients, likewise", max(norms), 2e-4),
    ]


class Found(NamedTuple):
    """Of a training step, in float64 on the CPU."""

    logits: Tensor
    loss: Tensor
    gradients: dict[str, Tensor]


def computed(model: nn.Module, image: Tensor, mask: Tensor) -> Found:
    parity = importlib.import_module("tests.golden.test_parity")
    logits = model(image)
    with torch.autocast(image.device.type, enabled=False):
        loss = parity.loss_of(logits.to(mask.dtype), mask)
    loss.backward()
    gradients = {
        name: whole(parameter.grad)
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return Found(whole(logits), whole(loss), gradients)


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    return model.to(device)


def whole(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.detach().double().cpu()


def as_one(tensors: dict[str, Tensor]) -> Tensor:
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def relative(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


def worst(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    """Of all parameters; some before a norm have no gradient but rounding."""
    least = SMALLEST * max(float(value.norm()) for value in truth.values())
    return max(
        float((found[name] - value).norm()) / max(least, float(value.norm()))
        for name, value in truth.items()
    )


def fit_rows(device: torch.device) -> list[Row]:
    """How many trainings of three differ in a bit: again, and stopped between steps."""
    rows = []
    for precision in ("float32", "bfloat16"):
        first = trained(device, precision, stopped=False)
        again = trained(device, precision, stopped=False)
        stopped = trained(device, precision, stopped=True)
        rows += [
            Row(f"fit, {precision}, again, other bits", float(first != again), 0),
            Row(f"fit, {precision}, stopped, other bits", float(first != stopped), 0),
        ]
    return rows


def trained(device: torch.device, precision: str, stopped: bool) -> str:
    """A digest of weights and curves after three steps."""
    chosen = TRAIN | {"device": device.type, "precision": precision}
    params = cast(Any, SimpleNamespace(**chosen))
    data = TrainingData(
        Noise(BATCH * STEPS, 1), Noise(BATCH + 3, 2), (0.3,) * 3, (0.25,) * 3
    )
    with tempfile.TemporaryDirectory() as folder:
        if stopped:
            try:
                fit(new_model(), data, params, Stopped(Path(folder)))
            except TrainingStoppedError:
                pass
            else:
                raise RuntimeError("fit did not stop")
        model = new_model()
        state = fit(model, data, params, LocalReporter(Path(folder)))
    digest = hashlib.sha256(repr((state.history, state.first_losses)).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def new_model() -> nn.Module:
    torch.manual_seed(3)
    return build_model("km_unet", drop_path=0.1)


if __name__ == "__main__":
    sys.exit(main())
