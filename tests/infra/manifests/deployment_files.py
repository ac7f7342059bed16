"""The files under infra/ that people deploy, read once."""

import re
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"


@cache
def kubernetes():
    """All objects of the base, in the order of the files."""
    return [
        document
        for path in sorted((INFRA / "kubernetes" / "base").glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text("utf-8"))
    ]


def named(objects, kind, name):
    """The one object of this kind and name."""
    (found,) = (
        o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)
    )
    return found


def pod_templates(objects):
    """Pod templates by name, those inside RayClusters too."""
    found = {}
    for item in objects:
        spec, name = item.get("spec", {}), item["metadata"]["name"]
        if item["kind"] == "RayCluster":
            found[f"{name}/head"] = spec["headGroupSpec"]["template"]
            for group in spec["workerGroupSpecs"]:
                found[f"{name}/{group['groupName']}"] = group["template"]
        elif "template" in spec:
            found[name] = spec["template"]
    return found


def container(name):
    """The one container of a pod template of the base."""
    (found,) = pod_templates(kubernetes())[name]["spec"]["containers"]
    return found


@cache
def compose():
    return yaml.safe_load((INFRA / "compose" / "compose.yaml").read_text("utf-8"))


@cache
def units():
    """systemd's units: name to their (key, value) pairs."""
    found = {}
    for path in sorted((INFRA / "systemd").glob("*.service")):
        lines = path.read_text("utf-8").splitlines()
        pairs = [line.partition("=")[::2] for line in lines if re.match(r"\w+=", line)]
        found[path.stem] = pairs
    return found


@cache
def pinned():
    """Versions by package, as in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)
