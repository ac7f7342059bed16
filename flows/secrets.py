"""Secrets from Prefect blocks: what the environment of a run does not have.

A Secret block `kmunet-aws-secret-access-key` stands for AWS_SECRET_ACCESS_KEY, and so
on. Values go to the environment of this process and its stages, and nowhere else.
"""

import os
from collections.abc import MutableMapping
from typing import cast

from prefect.blocks.system import Secret

# Taken together or not at all: half of another's pair is no key.
GROUPS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    ("RAY_AUTH_TOKEN",),
)
_OTHERS = {  # what else says who one is
    "AWS_ACCESS_KEY_ID": ("AWS_PROFILE",),
    "MLFLOW_TRACKING_USERNAME": ("MLFLOW_TRACKING_TOKEN",),
    "RAY_AUTH_TOKEN": ("RAY_AUTH_TOKEN_PATH",),
}


def block_name(variable: str) -> str:
    """The name of the block for a variable."""
    return f"kmunet-{variable.lower().replace('_', '-')}"


def load_secrets(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Set what blocks have and the environment does not; the variables' names.

    Without a server (PREFECT_API_URL) there are no blocks to ask for.
    """
    if not environ.get("PREFECT_API_URL"):
        return []
    loaded = []
    for group in GROUPS:
        if any(environ.get(name) for name in (*group, *_OTHERS[group[0]])):
            continue
        found = {name: value for name in group if (value := _load(name))}
        if len(found) == len(group):
            environ.update(found)
            loaded += sorted(found)
    return loaded


def _load(variable: str) -> str:
    try:
        block = cast(Secret[str], Secret.load(block_name(variable)))
    except ValueError:  # no such block
        return ""
    return str(block.get())
