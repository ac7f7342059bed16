"""`kmunet data get URL... --out DIR`: download files or folders, checked and resumable.

Prints a line `SHA256  PATH` each, as sha256sum does. A URL may end in #sha256=... or
#md5=...; run it again after a cut and it goes on, or after the end and nothing is done.
"""

import argparse
from pathlib import Path

from kmunet.data.address import is_url, parse
from kmunet.data.remote import fetch
from kmunet.errors import RemoteError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    places = "s3://bucket/key, s3://bucket/folder/, https://..., or what fsspec knows"
    add("place", nargs="+", metavar="URL", help=places)
    add("--out", required=True, type=Path, metavar="DIR", help="where they go")


def run(arguments: argparse.Namespace) -> int:
    """Download all; 0. Raises KMUNetError for the first that fails."""
    for place in arguments.place:
        if not is_url(place):
            raise RemoteError(
                f"{place}: no URL; write s3://..., https://... or file://"
            )
    for place in arguments.place:
        done = fetch(place, arguments.out / parse(place).name)
        print(f"{done.record['sha256']}  {done.path}")
    return 0
