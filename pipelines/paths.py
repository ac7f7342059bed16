"""Where each stage's inputs and outputs lie, relative to one workspace."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The places of one data set in the workspace `root`."""

    root: Path
    dataset: str

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def raw(self) -> Path:
        """The user's data, as downloaded: archives or folders."""
        return self.root / "data" / "raw" / self.dataset

    @property
    def prepared(self) -> Path:
        """Packed uint8 arrays and their index."""
        return self.root / "data" / "prepared" / self.dataset

    @property
    def splits(self) -> Path:
        """splits.json, and who is where in numbers."""
        return self.root / "data" / "splits" / self.dataset

    @property
    def model(self) -> Path:
        """model.safetensors, model.json and history.csv of the best epoch."""
        return self.root / "models" / self.dataset

    @property
    def report(self) -> Path:
        """report.html, overlays and the data of `dvc plots`."""
        return self.root / "reports" / self.dataset

    @property
    def metrics(self) -> Path:
        return self.root / "metrics" / f"{self.dataset}.json"

    @property
    def registration(self) -> Path:
        return self.root / "registered" / f"{self.dataset}.json"


def state_dir(root: Path) -> Path:
    """What outlives a run and belongs to no stage: `.kmunet` of the main checkout.

    A linked git worktree shares the state of the checkout that it was made from.
    """
    answer = subprocess.run(
        ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    home = Path(answer.stdout.strip()).parent if answer.returncode == 0 else root
    return home / ".kmunet"
