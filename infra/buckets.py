"""Make the buckets that a profile names, where they are not: once, for a new S3.

`python -m infra.buckets` waits for the server as long as it starts.
"""

import sys
import time

from kmunet.data.network import explain, is_transient
from kmunet.errors import KMUNetError
from pipelines.profile import Profile, apply

PATIENCE = 60.0  # seconds


def buckets(profile: Profile) -> list[str]:
    """Names of the buckets of all s3:// addresses."""
    places = (profile.storage, profile.dvc_remote)
    return sorted({p.split("/")[2] for p in places if p and p.startswith("s3://")})


def make(names: list[str], patience: float = PATIENCE) -> list[str]:
    """Make what is missing; return their names. Raises RemoteError."""
    import boto3  # type: ignore[import-untyped]  # half a second

    client = boto3.Session().client("s3")
    end = time.monotonic() + patience
    while True:
        try:
            there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            missing = [name for name in names if name not in there]
            for name in missing:
                client.create_bucket(Bucket=name)
            return missing
        except Exception as error:  # botocore's classes are made as it runs
            if not is_transient(error) or time.monotonic() > end:
                where = f"s3 at {client.meta.endpoint_url}"
                raise explain(error, where) from None
        time.sleep(1)


def main() -> int:
    """Make them; exit code 2 where the server refuses or does not answer."""
    try:
        wanted = buckets(apply())
        made = make(wanted)
    except KMUNetError as error:
        print(f"error: buckets: {error}", file=sys.stderr)
        return 2
    for name in wanted:
        print(f"s3://{name} {'made' if name in made else 'is there'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
