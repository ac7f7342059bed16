"""Where a command writes its report: never over what is no earlier one of its own."""

from pathlib import Path

from kmunet.errors import ConfigError


def report_folder(target: Path, mark: str) -> Path:
    """`target`, absolute. Raises ConfigError where it holds something else.

    `mark` is a file that every such report has.
    """
    target = target.absolute()
    free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not free and not (target / mark).is_file():
        raise ConfigError(
            f"--out {target}: is there and holds no earlier report ({mark}), which it "
            "would replace: name a new folder"
        )
    return target
