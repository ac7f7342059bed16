"""DVC's file of locks, removed where a kill cut its writing short.

DVC empties .dvc/tmp/rwlock and writes it anew. Killed in between it leaves no JSON, and
every later stage fails with "JSON structure is corrupted".
"""

import json
from collections.abc import Callable
from pathlib import Path


def mend(root: Path, say: Callable[[str], None]) -> None:
    """Remove the file of the workspace `root` if it is no JSON, and say so.

    The guard that DVC holds while it writes is held meanwhile: a file that another
    data set's stage is about to write is none that was cut short.
    """
    file = root / ".dvc" / "tmp" / "rwlock"
    if not _is_broken(file):
        return
    from dvc.lock import make_lock  # half a second, seldom needed

    guard = make_lock(f"{file}.lock", tmp_dir=str(file.parent), wait=True)
    with guard:
        if _is_broken(file):
            file.unlink()
            say(f"{file}: cut short when a DVC was killed; removed")


def _is_broken(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False
