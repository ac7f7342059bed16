"""Looks for secrets where none may be."""

import os
import subprocess
from pathlib import Path

import psycopg2

from infra.cluster.secrets import Secrets


def in_arguments(secrets: Secrets) -> list[str]:
    """Processes of this machine that have one as an argument."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_text(errors="replace")
        except OSError:
            continue
        found += [f"{file}: {command[:60]}" for _ in held(secrets, command)]
    return found


def in_files(secrets: Secrets, folder: Path, but: set[Path]) -> list[Path]:
    """Files below `folder` that hold one; `but` are those made for them.

    Servers run there: what they delete between being listed and being read holds
    nothing any more. A file that is there and may not be read is an error.
    """

    def passed_over(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    found = []
    for place, _, names in os.walk(folder, onerror=passed_over):
        for file in (Path(place, name) for name in names):
            if file in but or file.is_symlink() or not file.is_file():
                continue
            try:
                text = file.read_text(errors="replace")
            except FileNotFoundError:
                continue
            found += [file] if held(secrets, text) else []
    return found


def in_database(secrets: Secrets, uri: str, passfile: Path) -> list[str]:
    """Tables of a database of which a row holds one."""
    found = []
    with psycopg2.connect(uri, passfile=str(passfile)) as connection:
        cursor = connection.cursor()
        cursor.execute("select tablename from pg_tables where schemaname = 'public'")
        for (table,) in cursor.fetchall():
            for value in secrets.values():
                row = f'select 1 from "{table}" t where t::text like %s limit 1'
                cursor.execute(row, [f"%{value}%"])
                found += [table] * len(cursor.fetchall())
    connection.close()
    return found


def in_repository(secrets: Secrets, root: Path) -> str:
    """What git would commit, and has, of them."""
    asked = [word for value in secrets.values() for word in ("-e", value)]
    places = (["--untracked"], ["HEAD"])
    return "".join(
        subprocess.run(
            ["git", "grep", "-l", "-F", *asked, *place], cwd=root,
            capture_output=True, text=True, check=False,
        ).stdout
        for place in places
    )  # fmt: skip


def held(secrets: Secrets, text: str) -> list[str]:
    """The secrets in a text, by place among all."""
    return [str(i) for i, value in enumerate(secrets.values()) if value in text]
