"""`kmunet lineage models:/NAME@ALIAS`: from a model version back to its archives."""

import argparse

from kmunet.errors import KMUNetError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""


def run(arguments: argparse.Namespace) -> int:
    """Not there yet."""
    raise KMUNetError("not there yet")
