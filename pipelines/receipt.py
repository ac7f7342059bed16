"""A receipt of a training: what it was made of, and the losses of its first steps.

Only what the inputs and this kind of machine determine, so that a stage that writes it
gives the same bytes again; `kmunet verify` replays it.
"""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import torch

from kmunet.errors import CheckpointError, TrainingError

FILE = "receipt.json"
# Files and folders of the project.
TRAINING = (
    *(f"kmunet/{part}" for part in ("data", "ops", "nn", "models", "training")),
    "pipelines/train.py",
)
SCORING = (
    *(f"kmunet/{part}" for part in ("data", "evaluation", "inference")),
    "pipelines/scoring.py",
)
# What decides a result, of what is installed: MONAI has losses and networks.
PACKAGES: tuple[str, ...] = (
    "albumentations",
    "monai",
    "numpy",
    "opencv-python-headless",
    "torch",
)


@dataclass(frozen=True)
class Receipt:
    """Of one training; `differences` says what is not as it was."""

    dataset: str
    params: dict[str, Any]  # the whole of params.yaml
    data: str  # fingerprint of the prepared data and the split
    code: str  # sha256 of the library
    environment: dict[str, str]
    losses: list[float]  # of the first steps
    budget: str = ""  # that led the schedule instead of the epochs

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    def differences(self, other: "Receipt") -> list[str]:
        """What is not the same beside the losses, in words: `self` is the older."""
        found = []
        for name, what in (("data", "the data"), ("code", "kmunet's code")):
            if getattr(self, name) != getattr(other, name):
                found.append(f"{what}: other than it was")
        for key in sorted(self.environment | other.environment):
            then, now = self.environment.get(key), other.environment.get(key)
            if then != now:
                found.append(f"{key}: {then} then, {now} now")
        return found


def make_receipt(
    dataset: str,
    params: Mapping[str, Any],
    data: str,
    scan: str,
    device: torch.device,
    losses: Sequence[float],
    budget: str = "",
) -> Receipt:
    """Of a training that runs, or ran, here."""
    return Receipt(
        dataset, dict(params), data, code_digest(), _environment(scan, device),
        list(losses), budget,
    )  # fmt: skip


def read_receipt(folder: Path) -> Receipt:
    """Raises CheckpointError where there is none, or none of this version."""
    try:
        return Receipt(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{folder}: has no {FILE}: the model was trained before receipts were "
            "written, or this is no model folder; train it again"
        ) from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / FILE}: not a receipt ({error})") from None


def code_digest(parts: Sequence[str] = TRAINING) -> str:
    """sha256 of parts of the code, those that train: Python, C++ and headers."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for part in parts:
        place = root / part
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.suffix in (".py", ".cpp", ".h"):
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def check_code(parts: Sequence[str], expected: str) -> None:
    """Raise TrainingError unless parts of the code are as whoever planned them had.

    A process reads the code when its turn comes; a result under another code's name
    would be taken for that code's ever after.
    """
    if code_digest(parts) != expected:
        raise TrainingError(
            "kmunet's code is not that with which this began: run the command again"
        )


def _environment(scan: str, device: torch.device) -> dict[str, str]:
    chip, packages = torch.backends.cpu.get_cpu_capability(), PACKAGES
    libraries = {}
    if device.type == "cuda":
        chip, packages = torch.cuda.get_device_name(device), (*PACKAGES, "triton")
        cudnn = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        libraries = {"CUDA": str(torch.version.cuda), "cuDNN": cudnn}
    return {
        "device": f"{device.type}, {chip}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "scan backend": scan,
        **libraries,
        **{name: installed(name) for name in packages},
    }
