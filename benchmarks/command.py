"""`kmunet bench`: what the model costs on this machine, beside its peers."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""


def run(arguments: argparse.Namespace) -> int:
    from kmunet.errors import KMUNetError

    raise KMUNetError("not there yet: python -m benchmarks.scan")
