"""A real S3 server for tests: rclone on a free port of this machine."""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

KEY, SECRET = "kmunet-test-key", "kmunet-test-secret"


@dataclass(frozen=True)
class S3Server:
    """Where it answers, and the folder whose folders are its buckets."""

    endpoint: str
    root: Path

    @property
    def port(self):
        return int(self.endpoint.rpartition(":")[2])

    @cached_property
    def client(self):
        import boto3  # kernels are tested where it is not

        return boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=KEY,
            aws_secret_access_key=SECRET, region_name="us-east-1",
        )  # fmt: skip

    def put(self, bucket, key, content):
        """Write an object; return its URL. (Files written below `root` show late.)"""
        with suppress(self.client.exceptions.BucketAlreadyExists):
            self.client.create_bucket(Bucket=bucket)
        self.client.put_object(Bucket=bucket, Key=key, Body=content)
        return f"s3://{bucket}/{key}"

    def delete(self, bucket, key):
        self.client.delete_object(Bucket=bucket, Key=key)

    def env(self, endpoint=None):
        """What a user sets to reach it."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def rclone():
    """The program, beside this Python or on the path; None where it is missing."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone")


def start(root, *options, host="127.0.0.1", port=0):
    """The process and its address; `root` holds the buckets."""
    log = root.with_name(f"{root.name}-{len(options)}.log")
    command = [rclone(), "serve", "s3", "--addr", f"{host}:{port}", "--config",
               os.devnull, "-v", *options, str(root)]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://[\d.]+:\d+", log.read_text()):
            return process, found[0]
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"rclone did not start: {log.read_text()}")
