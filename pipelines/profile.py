"""Profiles: where the services are, as values for variables that the code reads.

KMUNET_PROFILE names one of infra/profiles.yaml. What the environment sets already
stands. No profile changes a result, and none holds a secret.
`eval "$(python -m pipelines.profile)"` sets the same in a shell.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from kmunet.errors import ConfigError, KMUNetError
from pipelines.address import shown

DEFAULT = "local"
FILE = Path(__file__).parents[1] / "infra" / "profiles.yaml"
VARIABLES = {
    "ray_address": "RAY_ADDRESS",
    "storage": "KMUNET_STORAGE",
    "mlflow": "MLFLOW_TRACKING_URI",
    "prefect": "PREFECT_API_URL",
    "s3_endpoint": "AWS_ENDPOINT_URL",
}
_KEY = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|[?&](password|token|secret|sig(nature)?)=|"
    r"^[A-Za-z0-9/+]{40}$",
    re.IGNORECASE,
)
_REMEDY = (
    "take it out, change it if the file was ever pushed, and set it in the environment "
    "or in a Prefect block (docs/operations.md#secrets)"
)


class Profile(BaseModel):
    """Addresses of one profile; what is left out is embedded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ray_address: str | None = None
    storage: str | None = None
    mlflow: str | None = None
    prefect: str | None = None
    s3_endpoint: str | None = None
    dvc_remote: str | None = None

    @field_validator("*")
    @classmethod
    def _no_secret(cls, value: str | None) -> str | None:
        if value and (shown(value) != value or _KEY.search(value)):
            raise ValueError(f"holds what looks like a secret: {_REMEDY}")
        return value

    def variables(self) -> dict[str, str]:
        """What the profile sets, by name of the variable."""
        values = self.model_dump(exclude_none=True)
        return {VARIABLES[key]: values[key] for key in VARIABLES if key in values}


def chosen(name: str | None = None, environ: Mapping[str, str] = os.environ) -> Profile:
    """The profile `name`, or the one that KMUNET_PROFILE names. Raises ConfigError."""
    name = name or environ.get("KMUNET_PROFILE") or DEFAULT
    named = environ.get("KMUNET_PROFILES")
    file = Path(named) if named else FILE
    if not file.is_absolute():
        raise ConfigError(
            f"KMUNET_PROFILES is '{named}': write the whole path, since stages run in "
            "folders of their own"
        )
    if not named and not file.exists() and name == DEFAULT:
        return Profile()  # installed without a checkout
    profiles = _read(file)
    if name not in profiles:
        raise ConfigError(
            f"KMUNET_PROFILE is '{name}': {file} has {', '.join(sorted(profiles))}"
        )
    return _parse(profiles[name], f"{file}: {name}")


def apply(
    name: str | None = None, environ: MutableMapping[str, str] = os.environ
) -> Profile:
    """Set what the profile says and the environment does not. Raises ConfigError."""
    profile = chosen(name, environ)
    for variable, value in profile.variables().items():
        environ.setdefault(variable, value)
    return profile


def _read(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; KMUNET_PROFILES names the file of profiles, "
            "unset it for infra/profiles.yaml"
        ) from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigError(f"{file}{line}: not YAML; mend it") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: write profiles by name, as in 'local: {{}}'")
    return found


def _parse(values: Any, where: str) -> Profile:
    """Errors name the key and never show its value: it may be a secret."""
    if not isinstance(values or {}, dict):
        raise ConfigError(f"{where}: write keys and values, or {{}} for none")
    try:
        return Profile(**(values or {}))
    except (ValidationError, TypeError) as error:
        if not isinstance(error, ValidationError):
            raise ConfigError(f"{where}: keys must be words") from None
        first = error.errors(include_input=False, include_context=False)[0]
    key, what = ".".join(map(str, first["loc"])), first["msg"]
    if first["type"] == "extra_forbidden":
        what = f"no such key; there are {', '.join(Profile.model_fields)}"
    raise ConfigError(f"{where}.{key}: {what.removeprefix('Value error, ')}") from None


def main() -> int:
    """Print the profile as `export` lines."""
    try:
        variables = chosen().variables()
    except KMUNetError as error:
        print(f"error: profile: {error}", file=sys.stderr)
        return 2
    for variable, value in variables.items():
        print(f"export {variable}={shlex.quote(os.environ.get(variable, value))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
