"""DVC stages, one a file, each `python -m pipelines.<stage> --dataset NAME`."""

from pipelines.quiet import silence

silence()
