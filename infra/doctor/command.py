"""`kmunet doctor`: checks services, credentials, versions and GPU; says what to mend.

Exit code 1 where something will not work. Writes nothing, shows no secret, and takes
at most 15 seconds.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.doctor.check import Check, Finding
    from pipelines.profile import Profile

chooses_profile = True  # kmunet.cli: a profile that is wrong is a finding here
MARKS = {"ok": "ok     ", "warning": "WARNING", "error": "ERROR  "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    add = parser.add_argument
    add("--profile", metavar="NAME", help="default: KMUNET_PROFILE, or local")
    add("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look, print, and return 1 if there is an error, else 0."""
    from infra.doctor.check import ERROR

    findings = diagnose(Path.cwd(), arguments.profile)
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        show(findings)
    return int(any(finding.level == ERROR for finding in findings))


def diagnose(place: Path, profile: str | None) -> list["Finding"]:
    """All findings about the checkout around `place`."""
    from flows.repository import toplevel
    from infra.doctor.check import error, examine, ok, without_secrets
    from kmunet.errors import KMUNetError
    from pipelines.profile import DEFAULT, apply

    try:
        chosen = apply(profile)
    except KMUNetError as problem:
        text, _, remedy = str(problem).partition("; ")
        remedy = remedy or "choose one of these"
        return [without_secrets(error("profile", text, remedy))]
    try:
        root = toplevel(place)
    except KMUNetError:
        root = place  # the check of git says so
    name = profile or os.environ.get("KMUNET_PROFILE") or DEFAULT
    set_here = ", ".join(chosen.variables()) or "nothing: all is embedded"
    first = ok("profile", f"{name}, which sets {set_here}")
    return [first, *examine(checks(root, chosen))]


def checks(root: Path, profile: "Profile") -> list["Check"]:
    """Everything there is to look at, in the order in which it is shown."""
    from infra.doctor import checkout, cluster, machine, servers, storage
    from infra.doctor.check import Check
    from pipelines.paths import state_dir

    state = state_dir(root)
    local = [] if profile.prefect else [Check("ports", partial(machine.ports, root))]
    return [
        Check("python", machine.python),
        Check("packages", machine.packages),
        Check("torch", machine.torch, machine.IMPORTS),
        Check("disk", partial(machine.disks, root, state)),
        Check("git", partial(checkout.git, root)),
        Check("project", partial(checkout.project, root)),
        Check("dvc", partial(storage.dvc, root, profile), machine.IMPORTS),
        Check("checkpoints", storage.checkpoints, machine.IMPORTS),
        Check("ray", cluster.ray, cluster.LIMIT + 1),
        Check("mlflow", partial(servers.mlflow, state), 10.0),
        Check("prefect", servers.prefect, 10.0),
        Check("clock", servers.clock, 10.0),
        *local,
    ]


def show(findings: Sequence["Finding"]) -> None:
    """One line each; below what is wrong, how to mend it."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        print(f"{MARKS[finding.level]}  {finding.name:{width}}  {finding.text}")
        if finding.remedy:
            print(f"{'':{width + 11}}-> {finding.remedy}")
    errors, warnings = (
        sum(finding.level == level for finding in findings)
        for level in ("error", "warning")
    )
    print(f"{errors} error(s), {warnings} warning(s)")
