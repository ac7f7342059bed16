"""DVC's default remote while a stack runs: its S3, in .dvc/config.local of a checkout.

A remote that the project already has stays the default.
"""

from configparser import ConfigParser
from pathlib import Path

from flows.pipeline import dvc
from infra.cluster.settings import Settings

NAME = "cluster"


def remember(root: Path, settings: Settings) -> None:
    """Make it known to DVC."""
    if not (root / ".dvc").is_dir():
        return
    if (other := _default(root)) not in ("", NAME):
        print(f"note: DVC's default remote stays '{other}', not the stack's")
        return
    url, endpoint = str(settings.profile().dvc_remote), settings.url("s3")
    wanted = {"url": url, "endpointurl": endpoint}
    if _known(root) != wanted:
        dvc(root, "remote", "add", "--local", "-f", "-d", NAME, url)
        dvc(
            root,
            "remote",
            "modify",
            "--local",
            NAME,
            "endpointurl",
            endpoint,
        )


def forget(root: Path) -> None:
    """Take it out again: nobody answers there now."""
    if (root / ".dvc").is_dir() and _known(root):
        dvc(root, "remote", "remove", "--local", NAME)


def _default(root: Path) -> str:
    """The local file stands above the project's."""
    found = ""
    for name in ("config", "config.local"):
        found = _read(root / ".dvc" / name).get("core", "remote", fallback=found)
    return found


def _known(root: Path) -> dict[str, str]:
    section = f"'remote \"{NAME}\"'"
    config = _read(root / ".dvc" / "config.local")
    return dict(config[section]) if config.has_section(section) else {}


def _read(file: Path) -> ConfigParser:
    config = ConfigParser(interpolation=None)
    config.read(file, encoding="utf-8")
    return config
