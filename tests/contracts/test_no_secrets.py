"""No committed file holds a secret: keys by their form, passwords in addresses."""

import math
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "an access key of Amazon's": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of GitHub's": r"\bgh[pousr]_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{22,}",
    "a token of GitLab's": r"\bglpat-[\w-]{20}",
    "a token of Hugging Face's": r"\bhf_[A-Za-z]{34}\b",
    "a token of Slack's": r"\bxox[abeoprs]-[\w-]{10,}|hooks\.slack\.com/services/T\w+",
    "a token of PyPI's": r"\bpypi-[\w-]{50,}",
    "a key of Prefect's cloud": r"\bpn[ub]_[A-Za-z0-9]{36}\b",
    "a JSON web token": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.",
    "a password in an address": r"://[^\s/:@'\"{}$<>()]+:[^\s/@'\"{}$<>()]{3,}@",
    "a password": (
        r"(?i)(?:passw(?:or)?d|secret(?:_?(?:access_?)?key)?|auth_?token|api_?key)"
        r"['\"]?\s*[:=]\s*['\"]?([A-Za-z0-9+/_=-]{16,})"
    ),
}
# Made up, and meant to look so.
FAKE = re.compile(
    r"(?i)example|secret|password|token|abcdef|123456|xxxx|user|//me:|wrong|hunter"
)
BITS = 3.5  # a letter: what is written by hand has less


def found(text):
    """(what, where) for each match that may be real."""
    for what, form in FORMS.items():
        for match in re.finditer(form, text):
            value = match[what == "a password"]
            if what == "a password" and (entropy(value) < BITS or "." in value):
                continue
            if not FAKE.search(value.removeprefix("-----BEGIN")):
                yield what, value


def entropy(value):
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def committed():
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("no git repository here: nothing is committed")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_committed_file_holds_a_secret():
    seen, problems = 0, []
    for path in committed():
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if b"\0" in data:
            continue  # a picture
        text = data.decode("utf-8", "replace")
        seen += 1
        problems += [f"{path.relative_to(ROOT)}: {what}" for what, _ in found(text)]
    assert seen > 100
    assert problems == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
        "aws_access_key_id = AKIA" + "Q3EGZ7HBN2KWLUVD",
        "url: postgres" + "://kmunet:Xq81nDs0" + "@db:5432/x",
        "GH = 'ghp" + "_" + "a9B8c7D6e5F4g3H2i1" * 2 + "'",
        "MLFLOW_TRACKING_PASSWORD" + "=kT9vQ2mZx7LpR4wB8nYc",
    ],
)
def test_a_secret_is_seen(text):
    assert list(found(text))


@pytest.mark.parametrize(
    "text",
    ["PGPASSWORD: ${POSTGRES_PASSWORD:?set it in .env}", "s3://bucket/a@b",
     "secretKeyRef: {name: kmunet, key: POSTGRES_PASSWORD}",
     "postgresql://kmunet@postgres:5432/mlflow"],
)  # fmt: skip
def test_a_reference_is_none(text):
    assert not list(found(text))


def test_what_holds_secrets_is_kept_out_of_git():
    done = subprocess.run(
        ["git", "check-ignore", "infra/compose/.env"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0
