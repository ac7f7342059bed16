"""The space of a search: keys of params.yaml, each with the values to try.

    train.lr: {loguniform: [1.0e-4, 1.0e-2]}   # also uniform; randint: both ends count
    train.loss: [bce_dice, tversky]            # one of a list

Values are drawn at random: the most that early stopping asks of them, and as good as a
grid of the same size or better (Bergstra & Bengio, JMLR 2012). The n-th draw depends on
the seed, n and the key alone: more trials later go on from those that are there.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmunet.config import Params
from kmunet.errors import ConfigError
from kmunet.yaml_file import read_yaml
from pipelines.overrides import Value
from pipelines.sweep_plan import changed

SECTIONS = ("augment", "presets", "model", "train", "recipe")
RANGES = ("uniform", "loguniform", "randint")
_DIGITS = 3  # of what is drawn from a range
TRIES = 50  # draws for each trial that is asked for


@dataclass(frozen=True)
class Choice:
    """One of a list of values."""

    values: tuple[Value, ...]

    def draw(self, rng: np.random.Generator) -> Value:
        """One of them, each as likely."""
        return self.values[int(rng.integers(len(self.values)))]

    def ends(self) -> tuple[Value, ...]:
        """The values to be checked."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, by one of RANGES."""

    kind: str
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> Value:
        """A number, to three digits: enough, and easily written down."""
        if self.kind == "randint":
            return int(rng.integers(int(self.low), int(self.high), endpoint=True))
        if self.kind == "loguniform":
            value = np.exp(rng.uniform(np.log(self.low), np.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def ends(self) -> tuple[Value, ...]:
        """The values to be checked."""
        if self.kind == "randint":
            return int(self.low), int(self.high)
        return self.low, self.high


Space = Mapping[str, Choice | Range]


def read_space(path: Path, params: Params) -> Space:
    """The space in a file, every key and end of it checked against `params`.

    Raises ConfigError naming the file and the key.
    """
    raw = read_yaml(path)
    space = {str(key): _values(path, str(key), value) for key, value in raw.items()}
    for key, values in space.items():
        if key.split(".")[0] not in SECTIONS:
            raise ConfigError(
                f"{path}: {key} has no part in training: choose keys of "
                f"{', '.join(SECTIONS)}"
            )
        for value in values.ends():
            try:
                changed(params, expanded(params, {key: value}))
            except ConfigError as error:
                raise ConfigError(f"{path}: {key}: {value}: {error}") from None
    return space


def draws(space: Space, trials: int, seed: int) -> Iterator[dict[str, Value]]:
    """Different draws, the n-th of them whatever `trials`; TRIES of these are made."""
    seen: set[str] = set()
    for number in range(trials * TRIES):
        own = {
            key: values.draw(np.random.default_rng([seed, number, _code(key)]))
            for key, values in space.items()
        }
        text = json.dumps(own, sort_keys=True)
        if text not in seen:
            seen.add(text)
            yield own


def expanded(params: Params, changes: Mapping[str, Value]) -> dict[str, Value]:
    """The values of a recipe in place of its name. ConfigError for an unknown one."""
    rest = dict(changes)
    name = rest.pop("recipe", None)
    if name is None:
        return rest
    if not isinstance(name, str) or name not in params.recipes:
        raise ConfigError(
            f"'{name}' is none of params.yaml's recipes: "
            f"{', '.join(sorted(params.recipes)) or '(none)'}"
        )
    return {**params.recipes[name], **rest}


def _code(key: str) -> int:
    return zlib.crc32(key.encode())


def _values(path: Path, key: str, given: Any) -> Choice | Range:
    if isinstance(given, list) and given:
        return Choice(tuple(given))
    if isinstance(given, dict) and len(given) == 1:
        ((kind, ends),) = given.items()
        numbers = list(_numbers(ends)) if isinstance(ends, list) else []
        above = kind != "loguniform" or min(numbers, default=0.0) > 0.0
        if kind in RANGES and len(numbers) == 2 and numbers[0] < numbers[1] and above:
            return Range(kind, *numbers)
    raise ConfigError(
        f"{path}: {key}: {given!r}: write a list of values to choose from, or a range "
        "as {uniform: [LOW, HIGH]}, {loguniform: [LOW, HIGH]} with LOW above 0, or "
        "{randint: [LOW, HIGH]}; one value goes to --set"
    )


def _numbers(ends: list[Any]) -> Iterator[float]:
    """YAML takes 1e-4 for text: only 1.0e-4 is a number to it."""
    for end in ends:
        try:
            yield float(end)
        except (TypeError, ValueError):
            return
