"""The lineage of a model version as a tree: version ← run ← weights ← ... ← files."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

SHOWN = 12  # raw files; --json lists all
Table = Mapping[str, Any]


def show(table: Table) -> None:
    """Print the tree of what `kmunet lineage` found, then what the check gave."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=1000)  # whole lines for grep
    console.print(_tree(table))
    if table["check"]:
        for line in _checked(table["check"]):
            console.print(line)


def _tree(table: Table) -> Tree:
    """A branch a step, from what was made down to what it was made from."""
    aliases = f" ({', '.join(table['aliases'])})" if table["aliases"] else ""
    root = Tree(Text(f"models:/{table['name']}/{table['version']}{aliases}", "bold"))
    for heading, lines in _steps(table):
        branch = root.add(Text.assemble(("← ", "dim"), (heading, "bold")))
        for line in lines:
            branch.add(Text(line))
    return root


def _steps(table: Table) -> Iterator[tuple[str, list[str]]]:
    lineage = table["lineage"]
    gate = table["tags"].get("gate")
    yield f"run {table['run_id']}", [f"in {table['uri']}", *([gate] if gate else [])]
    yield from _made(lineage)
    if "split" in lineage:
        yield f"split {_short(lineage['split']['fingerprint'])}", _split(lineage)
    if "prepared" in lineage:
        prepared = lineage["prepared"]
        yield (
            f"prepared data {_short(prepared['fingerprint'])}",
            [*_sizes(prepared), *_stage(lineage, "prepare")],
        )
    if "raw" in lineage:
        yield _raw(lineage["raw"])


def _made(lineage: Table) -> Iterator[tuple[str, list[str]]]:
    """The weights, and the training that made them: parameters, code, packages."""
    weights = lineage["weights"]
    best = weights.get("best", {})
    found = {"best epoch": best.get("epoch"), "scan": weights.get("scan_backend")}
    about = [f"{name} {value}" for name, value in found.items() if value is not None]
    lines = [f"sha256 {weights['sha256']}", *([", ".join(about)] if about else [])]
    yield f"weights, {weights['bytes']:,} bytes", lines
    params = lineage["params"]
    train = params["values"].get("train", {})
    used = [f"{key} {train[key]}" for key in ("seed", "epochs", "lr") if key in train]
    augment = params["values"].get("augment")
    lines = [", ".join([*used, *([f"augment {augment}"] if augment else [])])]
    lines += _code(lineage.get("code"))
    lines.append(", ".join(f"{k} {v}" for k, v in lineage["packages"].items()))
    lines += _stage(lineage, "train")
    yield f"training, params {_short(params['digest'])}", lines


def _code(code: Table | None) -> list[str]:
    if not code:
        return []
    other = [
        name for name in code["changed"] if name not in ("params.yaml", "dvc.lock")
    ]
    edits = f", with changes in {', '.join(other[:5])}" if other else ""
    more = f" and {len(other) - 5} more" if len(other) > 5 else ""
    return [f"commit {code['commit']}{edits}{more}"]


def _split(lineage: Table) -> list[str]:
    split = lineage["split"]
    settings = split.get("settings", {})
    lines = [", ".join(f"{key} {value}" for key, value in settings.items())]
    counts = split.get("counts", {})
    sizes = {
        name: value["images"] if isinstance(value, dict) else value
        for name, value in counts.items()
    }
    lines.append(", ".join(f"{name} {count}" for name, count in sizes.items()))
    return [line for line in [*lines, *_stage(lineage, "split")] if line]


def _sizes(prepared: Table) -> list[str]:
    size = prepared.get("sizes", prepared.get("size"))
    return [] if size is None else [f"at {size} pixels"]


def _stage(lineage: Table, stage: str) -> list[str]:
    """What DVC has of the stage's outputs."""
    found = lineage.get("stages", {}).get(f"{stage}@{lineage['dataset']}", {})
    return [f"DVC: {path} md5 {md5}" for path, md5 in found.get("outs", {}).items()]


def _raw(raw: Table) -> tuple[str, list[str]]:
    files = raw["files"]
    lines = [
        f"{file['path']}  {file['bytes']:,} bytes, sha256\n{file['sha256']}"
        for file in files[:SHOWN]
    ]
    if len(files) > SHOWN:
        lines.append(f"and {len(files) - SHOWN} more; --json lists all")
    total = sum(file["bytes"] for file in files)
    count = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    digest = _short(raw["digest"])
    return f"raw data ({raw['kind']}): {count}, {total:,} bytes, {digest}", lines


def _checked(check: Table) -> Iterator[Text]:
    yield Text(f"\n{check['place']}: {len(check['same'])} files are the same")
    words = {"differs": "differs", "missing": "missing", "extra": "was not there"}
    for key, word in words.items():
        for path in check[key][:SHOWN]:
            yield Text(f"  {word}: {path}", "red")
        if len(check[key]) > SHOWN:
            yield Text(f"  {word}: {len(check[key]) - SHOWN} more", "red")


def _short(digest: str) -> str:
    return digest[:16]
