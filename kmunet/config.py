"""params.yaml as typed, frozen sections: one a stage, read once.

`load_params` refuses unknown keys and values out of range with an error that
names the key. Nothing else in the project reads params.yaml.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from kmunet.errors import ConfigError
from kmunet.widths import check_widths

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A frozen section of params.yaml that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SynthesizeParams(Section):
    """The synthetic lesion set that stands in where there is no data yet."""

    images: Positive
    size: Annotated[int, Field(ge=32, le=1024)]  # pixels, side of the square
    seed: Seed


class SourceParams(Section):
    """How one data set is read: which reader, at which size."""

    kind: Literal["isic2017", "isic2018", "cvc", "busi", "glas", "folder", "manifest"]
    size: Annotated[int, Field(ge=32, le=2048)]  # pixels, side of the square
    # busi: which folders; None: all. folder, manifest: what mask values mean,
    classes: tuple[str, ...] | None = None
    values: tuple[int | str, ...] | None = None  # if not 1, 2, ...; or #rrggbb


class PrepareParams(Section):
    """How the data are divided. `clean` breaks no group; `paper` is the published way.

    With `folds`, fold `fold` is tested (or selected on, where there is an official
    test set) and the shares do not count.
    """

    seed: Seed
    validation: Annotated[float, Field(gt=0.0, lt=1.0)]
    test: Annotated[float, Field(gt=0.0, lt=1.0)]
    protocol: Literal["clean", "paper"] = "clean"
    folds: Annotated[int, Field(ge=1, le=100)] = 1  # 1: one split by shares
    fold: Annotated[int, Field(ge=0)] = 0
    official: bool = True  # keep the split that the data set or a manifest declares

    @model_validator(mode="after")
    def _number_the_folds(self) -> "PrepareParams":
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} must be below folds {self.folds}")
        if self.protocol == "paper" and self.folds > 1:
            raise ValueError("protocol 'paper' has one split: set folds to 1")
        return self

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "PrepareParams":
        if self.validation + self.test >= 1.0:
            raise ValueError(
                "validation + test must leave a share to train on (sum below 1)"
            )
        return self


class TransformParams(Section):
    """One albumentations transform by its class name, with its arguments."""

    name: str
    args: dict[str, Any] = Field(default_factory=dict)


class ModelParams(Section):
    """What `kmunet.models.build_model` is called with, channels and classes aside."""

    name: Literal["km_unet", "u_kan", "unet", "attention_unet"]
    widths: tuple[Positive, ...]
    kan: bool
    ss2d: bool
    attention: bool

    @model_validator(mode="after")
    def _check_widths(self) -> "ModelParams":
        # Here already: training, which builds the model, comes after long work.
        if self.name in ("km_unet", "u_kan"):
            try:
                check_widths(self.widths)
            except ConfigError as error:
                raise ValueError(str(error).removeprefix("model.")) from None
        return self


class TrainParams(Section):
    """One training run. `batch_size` is global, whatever the number of workers."""

    seed: Seed
    epochs: Positive
    batch_size: Positive
    optimizer: Literal["adam", "adamw", "sgd"]
    lr: Annotated[float, Field(gt=0.0, le=10.0)]
    kan_lr: Annotated[float, Field(gt=0.0, le=10.0)]
    min_lr: Annotated[float, Field(ge=0.0, le=10.0)]
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    loss: Literal["bce_dice"]
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)]
    precision: Literal["float32", "bfloat16"]  # of convolutions and projections
    scan_backend: Literal["auto", "naive", "chunked", "cpu"]
    device: Literal["auto", "cpu", "cuda"]
    workers: Positive  # Ray Train workers, one process each
    threads: Positive  # CPU threads of a worker: sums depend on their number
    loader_workers: Annotated[int, Field(ge=0, le=64)]
    max_failures: Annotated[int, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _share_the_batch(self) -> "TrainParams":
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of "
                f"workers {self.workers}: it is the global batch"
            )
        return self


class EvaluateParams(Section):
    """How the test images are scored and shown."""

    batch_size: Positive
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)]
    bootstrap: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)]
    seed: Seed
    overlays: Annotated[int, Field(ge=0, le=200)]


class GateParams(Section):
    """When a challenger becomes champion: paired on the same test images."""

    metric: Literal["iou", "dice"]
    min_gain: Annotated[float, Field(ge=-1.0, le=1.0)]
    confidence: Annotated[float, Field(ge=0.0, lt=1.0)]  # 0: the mean decides


class RegisterParams(Section):
    """Where a trained model goes, and the gate that it must pass."""

    prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]
    gate: GateParams


class Params(Section):
    """The whole of params.yaml."""

    datasets: Annotated[tuple[DatasetName, ...], Field(min_length=1)]
    sources: dict[DatasetName, SourceParams]
    synthesize: SynthesizeParams
    prepare: PrepareParams
    augment: tuple[TransformParams, ...]
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")

    @model_validator(mode="after")
    def _know_every_dataset(self) -> "Params":
        for name in self.datasets:
            if name not in self.sources:
                raise ValueError(
                    f"datasets: unknown data set '{name}'; sources declares "
                    f"{', '.join(sorted(self.sources))}"
                )
        return self

    def source(self, dataset: str) -> SourceParams:
        """The source of one data set. Raises ConfigError for an unknown name."""
        if dataset not in self.sources:
            raise ConfigError(
                f"unknown data set '{dataset}': params.yaml declares "
                f"{', '.join(sorted(self.sources))} under 'sources'; "
                "choose one of these or add an entry there"
            )
        return self.sources[dataset]


def parse_params(raw: Any, origin: str = "params.yaml") -> Params:
    """Check a plain mapping. Raises ConfigError naming the first key at fault."""
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, origin)) from None


def load_params(path: Path) -> Params:
    """Read params.yaml. Raises ConfigError naming the file or the key."""
    return parse_params(read_yaml(path), str(path.name))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping, unchecked. Raises ConfigError naming the file and the line."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; run from the project's root"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: holds no keys; `git checkout {path.name}` restores")
    return raw


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = "unknown key; remove it or correct its spelling"
        elif item["type"] == "missing":
            text = "missing key; add it (`git show HEAD:params.yaml` has one)"
        elif "input" in item and not isinstance(item["input"], dict):
            text = f"{text}, got {item['input']!r}"
        lines.append(f"{origin}: {key}: {text}" if key else f"{origin}: {text}")
    return "\n".join(lines)
