"""Stage `synthesize`: draw the synthetic lesion set into data/raw/synthetic."""

import sys
from pathlib import Path

from kmunet.config import load_params
from kmunet.data.synthetic import write_synthetic
from pipelines.paths import Paths
from pipelines.stage import report_errors


def run(paths: Paths) -> None:
    """Draw what params.yaml declares under 'synthesize'."""
    params = load_params(paths.params).synthesize
    write_synthetic(paths.raw, params.images, params.size, params.seed)
    print(f"{params.images} images and masks of {params.size}x{params.size} pixels")


def main() -> int:
    """No arguments: there is one such set."""
    return report_errors("synthesize", lambda: run(Paths(Path(), "synthetic")))


if __name__ == "__main__":
    sys.exit(main())
