"""What became of trials, on disk: a finished one is found by what it is made of."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipelines.receipt import SCORING, code_digest
from pipelines.sweep_plan import Trial
from pipelines.whole_file import write_whole


class TrialStore:
    """Folders of trials below `folder`, each with its results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._code = code_digest(SCORING)

    def place(self, trial: Trial) -> Path:
        """Where the trial keeps its checkpoints and its model."""
        return self.folder / trial.name

    def find(self, trial: Trial) -> dict[str, Any] | None:
        """The outcome of a finished trial, scored as it would be now; else None."""
        return _read(self._file(trial))

    def keep(self, trial: Trial, outcome: dict[str, Any]) -> None:
        """Keep the outcome of a finished trial, whole or not at all."""
        write_whole(self._file(trial), json.dumps(outcome, sort_keys=True))

    def find_search(self, trial: Trial, rules: str) -> dict[str, Any] | None:
        """The outcome of a trial that is over, or was ended early by these rules."""
        return _read(self._whole(trial)) or _read(self._early(trial, rules))

    def keep_search(self, trial: Trial, rules: str, outcome: dict[str, Any]) -> None:
        """Keep what a trial reached; ended early, it is over for these rules alone."""
        whole = outcome["status"] == "finished"
        path = self._whole(trial) if whole else self._early(trial, rules)
        write_whole(path, json.dumps(outcome, sort_keys=True))

    def fail(self, trial: Trial, outcome: dict[str, Any]) -> Path:
        """Keep what is known of an error; the file that has it."""
        text = outcome.get("traceback") or outcome["message"]
        return write_whole(self.place(trial) / "error.txt", text + "\n")

    def _file(self, trial: Trial) -> Path:
        """Named by what the scores depend on beside the model."""
        rules = trial.params.evaluate.model_dump_json() + self._code
        key = hashlib.sha256(rules.encode()).hexdigest()[:16]
        return self.place(trial) / f"result-{key}.json"

    def _whole(self, trial: Trial) -> Path:
        return self.place(trial) / "trained.json"

    def _early(self, trial: Trial, rules: str) -> Path:
        key = hashlib.sha256(rules.encode()).hexdigest()[:16]
        return self.place(trial) / f"early-{key}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found
