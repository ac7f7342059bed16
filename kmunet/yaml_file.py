"""A file of keys, such as params.yaml, as it is: kmunet/config.py checks them."""

from pathlib import Path
from typing import Any

import yaml

from kmunet.errors import ConfigError, in_one_line


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping, unchecked. Raises ConfigError naming the file and the line."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; run from the project's root"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}): give a YAML file"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}: line {line} is not UTF-8 ({in_one_line(error)}): save it as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: holds no keys; `git checkout {path.name}` restores")
    return raw
