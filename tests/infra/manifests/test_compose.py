"""compose.yaml against the specification, its references, and its secrets."""

import copy
import re

import pytest
import yaml
from deployment_files import INFRA, compose

FILES = ("compose.yaml", "gpu.yaml")
TEXT = (INFRA / "compose" / "compose.yaml").read_text("utf-8")


def parse(content):
    """Merge keys are YAML's own, and resolved before."""
    spec = pytest.importorskip("compose_spec", reason="make test brings compose-spec")
    return spec.PyCompose.from_yaml(yaml.safe_dump(content))


@pytest.mark.parametrize("file", FILES)
def test_it_is_what_compose_takes(file):
    content = yaml.safe_load((INFRA / "compose" / file).read_text("utf-8"))
    assert sorted(parse(content).service_names()) == sorted(content["services"])
    assert content["services"].keys() <= compose()["services"].keys()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s["s3"].update(comand=["x"]), "comand"),
        (lambda s: s["s3"].update(ports=["a:b:c"]), "ports"),
        (lambda s: s["s3"]["healthcheck"].update(intervall="5s"), "intervall"),
        (lambda s: s["worker"]["depends_on"].update(s3={"condition": "well"}), "well"),
        (lambda s: s["worker"].update(shm_size="1 gibi"), "shm_size"),
    ],
)
def test_a_mistake_is_seen(change, says):
    content = copy.deepcopy(compose())
    change(content["services"])
    with pytest.raises(ValueError, match=says):
        parse(content)


def test_what_is_named_is_there():
    content = compose()
    services = content["services"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= services.keys()
        mounted = {volume.split(":")[0] for volume in service.get("volumes", [])}
        assert mounted <= content["volumes"].keys()
        used = {each["source"] for each in service.get("configs", [])}
        assert used <= content["configs"].keys()
        if build := service.get("build"):
            context = INFRA / "compose" / build["context"]
            assert (context / build["dockerfile"]).is_file()
    for each in content["configs"].values():
        assert (INFRA / "compose" / each["file"]).is_file()


def test_who_depends_waits_until_the_other_is_well():
    services = compose()["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                own = services[other].get("healthcheck", {})
                assert "test" in own or "build" in services[other], (name, other)


def test_secrets_are_asked_for_by_name_and_the_example_has_none():
    example = (INFRA / "compose" / ".env.example").read_text("utf-8")
    pairs = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    assert set(re.findall(r"\$\{(\w+):\?", TEXT)) == pairs.keys()
    assert {name for name, value in pairs.items() if value} == {
        "MLFLOW_TRACKING_USERNAME"  # who, not what they know
    }


def test_containers_have_no_privileges():
    for name, service in compose()["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name != "postgres":  # its image gives its own root away
            assert service["cap_drop"] == ["ALL"], name
