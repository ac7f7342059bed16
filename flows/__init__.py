"""Prefect flows: what runs when. Each stage is a DVC stage, each task a call of DVC."""

from pipelines.quiet import silence

silence()  # before prefect is imported
