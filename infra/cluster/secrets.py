"""The stack's secrets: made at its first start, in one file of mode 0600.

They reach a process as a variable or a file of the same mode, and only the process that
needs them: never as an argument, in a log or in a profile.
"""

import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

from infra.cluster.place import Place, write_private
from kmunet.errors import ServiceError

_secret: Any = partial(field, default_factory=partial(secrets.token_urlsafe, 30))
USER = "admin"  # of MLflow and of Prefect


@dataclass(frozen=True, repr=False)
class Secrets:
    """Passwords and keys by what they open; letters, digits, - and _ alone."""

    postgres_prefect: str = _secret()
    postgres_mlflow: str = _secret()
    s3_key: str = field(default_factory=partial(secrets.token_hex, 10))
    s3_secret: str = _secret()
    mlflow_password: str = _secret()
    mlflow_sessions: str = _secret()  # signs cookies
    prefect_password: str = _secret()
    ray_token: str = field(default_factory=partial(secrets.token_hex, 32))

    def values(self) -> list[str]:
        """All of them, to be looked for where none may be."""
        return [getattr(self, item.name) for item in fields(self)]


def load(place: Place, postgres: bool) -> Secrets:
    """Those of this stack. `postgres`: there are databases, which know theirs.

    Raises ServiceError where the file is damaged, or gone and the databases are not.
    """
    try:
        return Secrets(**json.loads(place.secrets.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if postgres:
            raise ServiceError(
                f"{place.secrets}: gone, and the databases know the old passwords: "
                f"bring it back, or remove {place.folder} with all that is in it"
            ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ServiceError(
            f"{place.secrets}: cannot be read ({type(error).__name__}): bring it "
            f"back, or remove {place.folder} with all that is in it"
        ) from None
    made = Secrets()
    write_private(place.secrets, json.dumps(asdict(made), indent=1) + "\n")
    return made
