"""Values that replace those of params.yaml for one run: `{"train.epochs": 2}`."""

import json
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from kmunet.config import Params, parse_params
from kmunet.errors import ConfigError
from kmunet.yaml_file import read_yaml

Scalar = bool | int | float | str | None
Value = Scalar | list[Scalar]


class Representer(RoundTripRepresenter):
    """Writes 1e-05 as 1.0e-05: in YAML 1.1, which others read, the first is text."""

    def represent_float(self, data: float) -> ScalarNode:
        """Return the node of a float."""
        text = repr(data)
        if "e" in text and "." not in text:
            text = text.replace("e", ".0e")
        return self.represent_scalar("tag:yaml.org,2002:float", text)


Representer.add_representer(float, Representer.represent_float)


def expand(path: Path, overrides: Mapping[str, Value]) -> dict[str, Value]:
    """Put the values of params.yaml's recipe in place of `recipe`; others go first.

    Raises ConfigError for an unknown recipe.
    """
    rest = dict(overrides)
    name = rest.pop("recipe", None)
    if name is None:
        return rest
    recipes = read_yaml(path).get("recipes") or {}
    if not isinstance(name, str) or name not in recipes:
        raise ConfigError(
            f"override recipe: '{name}' is none of params.yaml's recipes: "
            f"{', '.join(sorted(recipes)) or '(none)'}"
        )
    return {**recipes[name], **rest}


def overridden(path: Path, overrides: Mapping[str, Value]) -> Params:
    """Return params.yaml with the overrides, checked. Raises ConfigError."""
    raw = read_yaml(path)
    for key, value in overrides.items():
        assign(raw, key, value)
    origin = "params.yaml with the overrides" if overrides else path.name
    return parse_params(raw, origin)


def write(path: Path, overrides: Mapping[str, Value]) -> None:
    """Write the overrides into the file, keeping its comments and order."""
    editor = YAML()
    editor.Representer = Representer
    editor.preserve_quotes = True
    editor.width = 4096
    document = editor.load(path.read_text(encoding="utf-8"))
    for key, value in overrides.items():
        assign(document, key, _in_line(value))
    text = StringIO()
    editor.dump(document, text)
    path.write_text(text.getvalue(), encoding="utf-8")


def assign(node: Any, key: str, value: Value) -> None:
    """Set a dotted key, `augment.0.args.p` too. Raises ConfigError where none leads."""
    *parents, last = key.split(".")
    for place, name in enumerate(parents):
        node = _child(node, name, ".".join(parents[: place + 1]), key)
    if isinstance(node, list):
        node[_index(node, last, key)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:
        raise ConfigError(f"override {key}: {'.'.join(parents)} has no keys")


def parse(text: str) -> tuple[str, Value]:
    """Read `key=value` of the command line; the value as JSON, else as text.

    A list needs no quotes around its words: [benign,malignant].
    """
    key, found, value = text.partition("=")
    if not found or not key:
        raise ConfigError(f"--set {text}: write it as key=value, as in train.epochs=2")
    read = _read(value)
    if read is value and value.startswith("[") and value.endswith("]"):
        return key, [_read(item.strip()) for item in value[1:-1].split(",")]
    return key, read


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _in_line(value: Value) -> Any:
    if not isinstance(value, list):
        return value
    sequence = CommentedSeq(value)
    sequence.fa.set_flow_style()
    return sequence


def _child(node: Any, name: str, path: str, key: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, name, key)]
    if isinstance(node, dict) and name in node:
        return node[name]
    raise ConfigError(f"override {key}: params.yaml has no key '{path}'")


def _index(node: list[Any], name: str, key: str) -> int:
    if name.isdecimal() and int(name) < len(node):
        return int(name)
    raise ConfigError(f"override {key}: '{name}' must be 0 to {len(node) - 1}")
