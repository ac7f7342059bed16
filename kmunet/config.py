"""params.yaml as typed, frozen sections: one a stage, read once.

`load_params` refuses unknown keys and values out of range with an error that
names the key. Nothing else in the project reads params.yaml.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from kmunet.class_names import check_class_names
from kmunet.errors import ConfigError
from kmunet.widths import check_widths
from kmunet.yaml_file import read_yaml

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Gain = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# A number, or the fewest and the most: as many as the cluster has room for.
Workers = Positive | tuple[Positive, Positive]
DatasetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
PresetName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class Section(BaseModel):
    """A frozen section of params.yaml that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _take_no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError(f"{str(value).lower()} is no value for it")
        return value


class SynthesizeParams(Section):
    """The synthetic lesion set that stands in where there is no data yet."""

    images: Positive
    size: Annotated[int, Field(ge=32, le=1024)]  # pixels, side of the square
    seed: Seed


Size = Annotated[int, Field(ge=32, le=2048)]  # pixels, side of the square


class SourceParams(Section):
    """How one data set is read: which reader, at which sizes."""

    kind: Literal["isic2017", "isic2018", "cvc", "busi", "glas", "folder", "manifest"]
    sizes: Annotated[tuple[Size, ...], Field(min_length=1)]  # the first by default
    # busi: which folders; None: all. folder, manifest: what mask values mean,
    classes: tuple[str, ...] | None = None
    values: tuple[int | str, ...] | None = None  # if not 1, 2, ...; or #rrggbb

    @model_validator(mode="after")
    def _prepare_a_size_once(self) -> "SourceParams":
        if len(set(self.sizes)) < len(self.sizes):
            raise ValueError(f"sizes {list(self.sizes)}: each once")
        return self

    @model_validator(mode="after")
    def _name_classes_once(self) -> "SourceParams":
        # Here already: MLflow, which refuses names, comes last.
        try:
            check_class_names(self.classes or ())
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class PrepareParams(Section):
    """What is packed beside the images at the sizes of the source."""

    native: bool  # also at their own size, to be scored there


class SplitParams(Section):
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
    stable: bool = False  # places by each image's own hash: they stay as data grow

    @model_serializer(mode="wrap")
    def _as_it_was_written_before(
        self, plain: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """Without `stable` where it is off: the same bytes as before there was one."""
        values: dict[str, Any] = plain(self)
        if not self.stable:
            del values["stable"]
        return values

    @model_validator(mode="after")
    def _number_the_folds(self) -> "SplitParams":
        if self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} must be below folds {self.folds}")
        if self.protocol == "paper" and self.folds > 1:
            raise ValueError("protocol 'paper' has one split: set folds to 1")
        if self.protocol == "paper" and self.stable:
            raise ValueError(
                "protocol 'paper' goes by place in the sorted ids: set stable to false"
            )
        return self

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "SplitParams":
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

    name: Literal[
        "km_unet", "u_kan", "unet", "attention_unet", "unet_plus_plus", "swin_unetr"
    ]
    widths: tuple[Positive, ...]
    kan: bool
    ss2d: bool
    attention: bool
    drop_path: Fraction  # of the KAN blocks
    skip_gain: Gain  # times the skips' scans as they start
    layer_scale: Gain | None  # first weight of a residual; None: there is none
    deep_supervision: bool  # the loss at 1/2, 1/4, 1/8 of the resolution too
    presence: bool  # whether there is anything at all, decided by image

    @model_validator(mode="after")
    def _check_widths(self) -> "ModelParams":
        # Here already: training, which builds the model, comes after long work.
        if self.name in ("km_unet", "u_kan"):
            try:
                check_widths(self.widths)
            except ConfigError as error:
                raise ValueError(str(error).removeprefix("model.")) from None
        elif self.deep_supervision:
            raise ValueError(f"deep_supervision: {self.name} has none; set it to false")
        return self


class TrainParams(Section):
    """One training run. `batch_size` is global, whatever the number of workers."""

    seed: Seed
    size: Positive | None  # one of the source's sizes; None: its first
    epochs: Positive
    batch_size: Positive
    scaling: Literal["data", "published"]  # of inputs: the training images' own
    optimizer: Literal["adam", "adamw", "sgd"]
    lr: Annotated[float, Field(gt=0.0, le=10.0)]
    kan_lr: Annotated[float, Field(gt=0.0, le=10.0)]
    min_lr: Annotated[float, Field(ge=0.0, le=10.0)]
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    warmup: Annotated[int, Field(ge=0)]  # epochs of linear rise
    clip: Annotated[float, Field(gt=0.0)] | None  # largest norm of the gradient
    grid_updates: Annotated[int, Field(ge=0)]  # first epochs that fit the KAN grids
    accumulate: Positive  # parts a batch goes through the model in
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)]  # of the weight average; 0: none
    loss: Literal["bce_dice", "dice_ce", "tversky", "lovasz", "boundary"]
    threshold: Annotated[float, Field(gt=0.0, lt=1.0)]
    scan_backend: Literal["auto", "cpu", "triton", "mamba-ssm", "chunked", "naive"]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["float32", "bfloat16", "float16"]
    # torch.compile the model; with "reduce-overhead" as CUDA graphs
    compile: bool | Literal["reduce-overhead"]
    workers: Workers  # Ray Train workers, one process each; or [fewest, most]
    threads: Positive  # CPU threads of a worker: sums depend on their number
    loader_workers: Annotated[int, Field(ge=0, le=64)]
    max_failures: Annotated[int, Field(ge=0, le=100)]
    patience: Positive | None  # epochs without a better validation IoU
    max_steps: Positive | None
    max_minutes: Annotated[float, Field(gt=0.0)] | None  # the result depends on speed
    checkpoint_steps: Positive | None  # besides the end of each epoch

    @field_validator("workers", mode="before")
    @classmethod
    def _count_workers(cls, value: Any) -> Any:
        counts = value if isinstance(value, list | tuple) else (value, value)
        whole = all(type(count) is int and count > 0 for count in counts)
        if not whole or len(counts) != 2 or counts[0] > counts[1]:
            raise ValueError("write a number from 1, or [fewest, most]")
        return value

    @model_validator(mode="after")
    def _leave_epochs_after_the_rise(self) -> "TrainParams":
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup {self.warmup} must be below epochs {self.epochs}")
        return self

    @model_validator(mode="after")
    def _share_the_batch(self) -> "TrainParams":
        if not isinstance(self.workers, int):
            return self._share_among_some()
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of "
                f"workers {self.workers}: it is the global batch"
            )
        if (self.batch_size // self.workers) % self.accumulate:
            raise ValueError(
                f"accumulate {self.accumulate} must divide a worker's share of the "
                f"batch, {self.batch_size // self.workers}"
            )
        return self

    @model_validator(mode="after")
    def _replay_whole_batches(self) -> "TrainParams":
        whole = self.accumulate == 1 and self.workers == 1
        if self.compile == "reduce-overhead" and not whole:
            raise ValueError(
                "compile reduce-overhead: CUDA graphs write each part's gradients over "
                "those before, in one process: set accumulate and workers to 1, or "
                "compile to true"
            )
        return self

    def _share_among_some(self) -> "TrainParams":
        assert not isinstance(self.workers, int)
        most = self.workers[1]
        if self.batch_size < most * self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is the global batch: {most} workers "
                f"with accumulate {self.accumulate} need {most * self.accumulate}"
            )
        return self


class EvaluateParams(Section):
    """How the test images are scored and shown."""

    resolution: Literal["prepared", "native"]
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
    split: SplitParams
    augment: PresetName
    presets: dict[PresetName, tuple[TransformParams, ...]]
    model: ModelParams
    train: TrainParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    recipes: dict[PresetName, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _know_every_dataset(self) -> "Params":
        for name in self.datasets:
            if name not in self.sources:
                raise ValueError(
                    f"datasets: unknown data set '{name}'; sources declares "
                    f"{', '.join(sorted(self.sources))}"
                )
        return self

    @model_validator(mode="after")
    def _keep_what_is_scored(self) -> "Params":
        if self.evaluate.resolution == "native" and not self.prepare.native:
            raise ValueError("evaluate.resolution: native needs prepare.native: true")
        return self

    def size(self, dataset: str) -> int:
        """The size at which a data set is trained on. Raises ConfigError."""
        sizes = self.source(dataset).sizes
        if self.train.size is not None and self.train.size not in sizes:
            raise ConfigError(
                f"params.yaml: train.size: {self.train.size} is none of "
                f"sources.{dataset}.sizes: {', '.join(map(str, sizes))}; choose one "
                "of these (null: the first) or add it there"
            )
        return self.train.size or sizes[0]

    @field_validator("augment", mode="before")
    @classmethod
    def _name_a_preset(cls, value: Any) -> Any:
        if isinstance(value, list):
            raise ValueError(
                "a list of transforms stands under 'presets' with a name; give that "
                "name here"
            )
        return value

    @model_validator(mode="after")
    def _know_the_preset(self) -> "Params":
        if self.augment not in self.presets:
            raise ValueError(
                f"augment: unknown preset '{self.augment}'; presets declares "
                f"{', '.join(sorted(self.presets))}"
            )
        return self

    def transforms(self) -> tuple[TransformParams, ...]:
        """The transforms of the preset that `augment` names."""
        return self.presets[self.augment]

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


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = _unknown(item["loc"])
        elif item["type"] == "missing":
            text = "missing key; add it (`git show HEAD:params.yaml` has one)"
        elif "input" in item and not isinstance(item["input"], dict):
            text = f"{text}, got {item['input']!r}"
        lines.append(f"{origin}: {key}: {text}" if key else f"{origin}: {text}")
    return "\n".join(lines)


def _unknown(place: tuple[int | str, ...]) -> str:
    """What to do about a key that is not known, or not any more."""
    section, last = place[0], str(place[-1])
    if section == "prepare" and last in SplitParams.model_fields:
        return f"moved: it is split.{last} now"
    if section == "sources" and last == "size":
        return "is 'sizes' now, a list, such as sizes: [256]"
    return "unknown key; remove it or correct its spelling"
