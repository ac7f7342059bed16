"""Where a command writes its report: never over what is no earlier one of its own."""

import tempfile
from pathlib import Path

from kmunet.errors import ConfigError


def report_folder(target: Path, mark: str) -> Path:
    """`target`, absolute, its parent made. Called before all long work.

    `mark` is a file that every such report has. Raises ConfigError where it holds
    something else or cannot be written.
    """
    target = target.absolute()
    try:
        free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
        if free or (target / mark).is_file():
            _probe(target)
            return target
    except OSError as error:
        raise ConfigError(
            f"--out {target}: cannot be written ({error.strerror}): name a folder that "
            "can be made"
        ) from None
    raise ConfigError(
        f"--out {target}: is there and holds no earlier report ({mark}), which it "
        "would replace: name a new folder"
    )


def _probe(target: Path) -> None:
    """A folder beside it, as the report is first written to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}."):
        pass
