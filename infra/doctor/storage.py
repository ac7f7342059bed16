"""Where data and checkpoints are shared: DVC's cache and remote, KMUNET_STORAGE."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.doctor.check import Finding, error, ok, warning
from kmunet.errors import KMUNetError
from pipelines.profile import Profile

KEYS = {"profile": "profile_name", "region": "region_name"}
KEYS |= {
    name: f"aws_{name}"
    for name in ("access_key_id", "secret_access_key", "session_token")
}
PATIENCE = 3.0  # seconds
REFUSALS = {
    "NoSuchBucket": (
        "no such bucket",
        "make it (`aws s3 mb s3://{bucket}`), or correct the name",
    ),
    "InvalidAccessKeyId": (
        "access denied: the server does not know this access key",
        "correct AWS_ACCESS_KEY_ID (or AWS_PROFILE, or the remote's access_key_id)",
    ),
    "SignatureDoesNotMatch": (
        "access denied: the secret is not that of the access key",
        "correct AWS_SECRET_ACCESS_KEY (or the remote's secret_access_key)",
    ),
    "RequestTimeTooSkewed": ("the clocks differ too much", "synchronise them (NTP)"),
}
ADD = "dvc remote add -d store s3://bucket/prefix"


def dvc(root: Path, profile: Profile) -> Iterator[Finding]:
    """DVC is set up here; its cache can be written; its default remote answers."""
    if not (root / ".dvc").is_dir():
        yield error("dvc", f"{root / '.dvc'}: missing", "run in the project's checkout")
        return
    config = _config(root)
    cache = Path(config["cache"].get("dir") or root / ".dvc" / "cache")
    there = cache if cache.exists() else cache.parent
    if os.access(there, os.W_OK):
        yield ok("dvc cache", str(cache))
    else:
        yield error(
            "dvc cache", f"{cache}: not yours to write", "`dvc cache dir PLACE`"
        )
    yield _remote(config, profile)


def checkpoints() -> Iterator[Finding]:
    """KMUNET_STORAGE, where trainings under way keep their checkpoints."""
    place = os.environ.get("KMUNET_STORAGE", "")
    if place.startswith("s3://"):
        yield bucket("checkpoints", place, {})
    elif place and not Path(place).is_dir():
        remedy = "make it, or set KMUNET_STORAGE to another or to s3://bucket/prefix"
        yield error("checkpoints", f"{place}: no such folder", remedy)
    elif os.environ.get("RAY_ADDRESS") and not place:
        remedy = (
            "set KMUNET_STORAGE=s3://bucket/prefix, or a folder that all nodes share"
        )
        yield warning("checkpoints", "in this machine's .kmunet, Ray elsewhere", remedy)
    else:
        yield ok("checkpoints", place or "embedded: .kmunet/ray")


def bucket(name: str, url: str, options: dict[str, Any]) -> Finding:
    """List one key at s3://bucket/prefix: network, keys and bucket told apart.

    options: as DVC's remote has them (endpointurl, access_key_id, profile, ...).
    """
    import boto3  # type: ignore[import-untyped]  # half a second
    from botocore.config import Config  # type: ignore[import-untyped]

    from kmunet.data.network import explain

    held, _, prefix = url.removeprefix("s3://").partition("/")
    endpoint = options.get("endpointurl") or os.environ.get("AWS_ENDPOINT_URL") or None
    patience = Config(
        connect_timeout=PATIENCE,
        read_timeout=PATIENCE,
        retries={"total_max_attempts": 1},
    )
    try:
        given = {KEYS[key]: options[key] for key in KEYS if options.get(key)}
        session = boto3.Session(**given)
        client = session.client("s3", endpoint_url=endpoint, config=patience)
        client.list_objects_v2(Bucket=held, Prefix=prefix, MaxKeys=1)
    except Exception as problem:  # botocore's classes are made as it runs
        at = f"{url} at {endpoint}" if endpoint else url
        answer = getattr(problem, "response", None) or {}  # None at a time-out
        code = answer.get("Error", {}).get("Code", "")
        if code in REFUSALS:
            text, remedy = REFUSALS[code]
            return error(name, f"{at}: {text}", remedy.format(bucket=held))
        text, _, remedy = str(explain(problem, at)).partition("; ")
        return error(name, text, remedy or "see the server's log")
    return ok(name, f"{url} can be listed")


def _remote(config: Any, profile: Profile) -> Finding:
    name = config["core"].get("remote", "")
    remote = config["remote"].get(name)
    if remote is None:
        if os.environ.get("RAY_ADDRESS") or profile.dvc_remote:
            add = ADD.replace("s3://bucket/prefix", profile.dvc_remote or "s3://...")
            text = "no default remote: other nodes cannot fetch data"
            return error("dvc remote", text, f"`{add}`, then `dvc push`")
        return ok("dvc remote", f"none: data and results stay here (`{ADD}`)")
    url = str(remote["url"])
    if profile.dvc_remote and profile.dvc_remote.rstrip("/") != url.rstrip("/"):
        remedy = f"`dvc remote modify {name} url {profile.dvc_remote}`"
        return warning("dvc remote", f"{url}; the profile has another", remedy)
    if url.startswith("s3://"):
        return bucket("dvc remote", url, dict(remote))
    if re.match(r"\w+://", url):
        return warning("dvc remote", f"{url}: not checked", "`dvc status -c` asks it")
    if Path(url).is_dir():
        return ok("dvc remote", url)
    return error(
        "dvc remote", f"{url}: no such folder", "mount it, or `dvc remote modify`"
    )


def _config(root: Path) -> Any:
    from dvc.config import Config  # four files, one upon the other

    try:
        return Config(str(root / ".dvc"))
    except Exception as problem:
        raise KMUNetError(f"{root / '.dvc' / 'config'}: {problem}") from None
