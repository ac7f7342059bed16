"""Ray's launcher files, systemd's units, the reverse proxy: by their own programs."""

import copy
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml
from deployment_files import INFRA, ROOT, units

LAUNCHER = sorted((INFRA / "ray").glob("*.yaml"))
PYTHON = ROOT / ".venv" / "bin"


def prepared(config):
    """What `ray up` does before it calls anybody."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    whole = prepare_config(copy.deepcopy(config))
    validate_config(whole)
    return whole


@pytest.mark.parametrize("file", LAUNCHER, ids=lambda f: f.stem)
def test_ray_up_takes_it(file):
    config = yaml.safe_load(file.read_text("utf-8"))
    whole = prepared(config)
    assert whole["head_node_type"] in whole["available_node_types"]
    broken = config | {"max_wrokers": 2}
    with pytest.raises(jsonschema.ValidationError, match="max_wrokers"):
        prepared(broken)
    for command in (*config["head_start_ray_commands"][1:],
                    *config["worker_start_ray_commands"][1:]):  # fmt: skip
        assert command.startswith("RAY_AUTH_MODE=token ray start")
    assert "/home/kmunet/.ray/auth_token" in config["file_mounts"]


def verify(folder):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not here: units are not verified")
    command = ["systemd-analyze", "verify", *map(str, folder.glob("*.service"))]
    return subprocess.run(command, capture_output=True, text=True)


def copied(folder, changed=str):
    """The units, as installed where the programs are."""
    for path in (INFRA / "systemd").glob("*.service"):
        text = path.read_text("utf-8").replace("/opt/kmunet/.venv/bin", str(PYTHON))
        (folder / path.name).write_text(changed(text))
    return folder


def test_systemd_takes_the_units(tmp_path):
    done = verify(copied(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip()


def test_a_mistake_in_a_unit_is_seen(tmp_path):
    done = verify(copied(tmp_path, lambda t: t.replace("Restart=", "Restrat=")))
    assert "Restrat" in done.stderr


@pytest.mark.parametrize("name", units())
def test_units_are_shut_in_and_have_no_secrets(name):
    unit = units()[name]
    assert {
        ("User", "kmunet"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"), ("CapabilityBoundingSet", ""),
    } <= set(unit)  # fmt: skip
    files = [value for key, value in unit if key == "EnvironmentFile"]
    assert files
    assert all(file.startswith("/etc/kmunet/") for file in files)
    said = " ".join(value for key, value in unit if key == "Environment")
    assert not re.search(r"(PASSWORD|SECRET|TOKEN|AUTH_STRING)=", said)


def nginx(folder, text):
    if not shutil.which("nginx"):
        pytest.skip("nginx is not here: the proxy's file is not tried")
    if not (folder / "server.crt").exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
             "-subj", "/CN=kmunet", "-keyout", "server.key", "-out", "server.crt"],
            cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
    (folder / "kmunet.conf").write_text(text.replace("/etc/kmunet/tls", str(folder)))
    whole = f"pid {folder}/pid; events {{}} http {{ include {folder}/kmunet.conf; }}"
    (folder / "nginx.conf").write_text(whole)
    command = ["nginx", "-t", "-e", "stderr", "-c", str(folder / "nginx.conf")]
    return subprocess.run(command, capture_output=True, text=True)


def test_nginx_takes_the_proxys_file(tmp_path):
    text = (INFRA / "proxy" / "nginx.conf").read_text("utf-8")
    done = nginx(tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
    assert nginx(tmp_path, text.replace("proxy_pass", "proxy_past")).returncode != 0


def test_mlflows_pages_may_ask_it_through_the_proxy():
    """Their origin is the proxy's name: MLflow refuses others, and lists stay empty."""
    command = dict(units()["kmunet-mlflow"])["ExecStart"]
    (host,) = re.findall(r"--allowed-hosts=(\S+)", command)
    assert f"--cors-allowed-origins=https://{host}" in command.split()
    assert host in (INFRA / "proxy" / "nginx.conf").read_text("utf-8")
