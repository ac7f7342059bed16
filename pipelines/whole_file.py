"""A file that appears whole or not at all."""

from pathlib import Path


def write_whole(path: Path, text: str) -> Path:
    """Write `text` beside `path`, then move it there; `path`, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path
