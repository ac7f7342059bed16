"""What classes may be called: metrics are called by their names, in MLflow too."""

import re
from collections.abc import Sequence

from kmunet.errors import ConfigError

_NAME = re.compile(r"[\w. :/-]+")
_ELSEWHERE = re.compile(r"/\.{0,2}/")  # MLflow takes it for a path too: one that stays
_LONGEST = 200  # MLflow takes 250 characters, what is said of the class included


def check_class_names(names: Sequence[str]) -> None:
    """Raises ConfigError for a name given twice, or that MLflow would not take."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"classes: {name!r} is there twice: name each once")
        if not _is_fit(name):
            raise ConfigError(
                f"classes: {name!r}: metrics are called by it, and MLflow takes no "
                "such name: write letters, digits, spaces and _ - . : /, 200 at most"
            )


def _is_fit(name: str) -> bool:
    plain = bool(_NAME.fullmatch(name)) and not name.isspace()
    return plain and not _ELSEWHERE.search(name) and len(name) <= _LONGEST
