"""params.yaml: every key is known, every error names the key and what to do."""

from pathlib import Path

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric

from kmunet.config import load_params, parse_params
from kmunet.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def raw():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_the_committed_file_is_valid():
    assert load_params(ROOT / "params.yaml").datasets == ("synthetic",)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "learning_rate", 1, r"train\.learning_rate: unknown key"),
        ("train", "lr", -1, r"train\.lr: .*greater than 0, got -1"),
        ("train", "epochs", "many", r"train\.epochs: .*got 'many'"),
        ("train", "optimizer", "lion", r"train\.optimizer: .*'adam', 'adamw' or 'sgd'"),
        ("train", "precision", "half", r"train\.precision: .*'bfloat16' or 'float16'"),
        ("train", "workers", 3, "batch_size 8 must be a multiple of workers 3"),
        ("train", "workers", [1, 9], "batch_size 8 is the global batch: 9 workers"),
        (
            "train",
            "workers",
            [2, 1],
            r"train\.workers: write a number from 1, or \[few",
        ),
        ("train", "workers", [1, 2, 3], r"train\.workers: write .*, got \[1, 2, 3\]"),
        ("train", "workers", [2], r"train\.workers: write a number from 1, or \[few"),
        ("train", "workers", 0, r"train\.workers: write a number from 1, .*got 0"),
        ("split", "test", 0.9, "must leave a share to train on"),
        ("split", "seed", -4, r"split\.seed"),
        ("split", "fold", 1, "fold 1 must be below folds 1"),
        ("split", "protocol", "random", r"split\.protocol: .*'clean' or 'paper'"),
        ("split", "stable", "often", r"split\.stable: .*got 'often'"),
        ("model", "widths", [100, 160, 256], "model: widths: .*multiple of 8, got 100"),
        ("model", "name", "resnet", r"model\.name: .*'km_unet'"),
        ("prepare", "seed", 1, r"prepare\.seed: moved: it is split\.seed now"),
        ("prepare", "native", False, r"native needs prepare\.native: true"),
        ("evaluate", "threshold", 1.5, r"evaluate\.threshold: .*less than 1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(raw, section, key, value, message):
    raw["evaluate"]["resolution"] = "native"
    raw[section][key] = value
    with pytest.raises(ConfigError, match=message):
        parse_params(raw)


def test_a_split_that_is_not_stable_is_written_as_before_there_was_one(raw):
    values = parse_params(raw).model_dump(mode="json")["split"]
    assert set(values) == set(raw["split"]) - {"stable"}
    raw["split"]["stable"] = True
    values = parse_params(raw).model_dump(mode="json")
    assert values["split"]["stable"] is True
    raw["split"]["protocol"] = "paper"
    with pytest.raises(ConfigError, match=r"protocol 'paper' .*set stable to false"):
        parse_params(raw)


@pytest.mark.parametrize(
    "more", [{"accumulate": 2}, {"workers": 2}, {"workers": [1, 2]}]
)
def test_graphs_are_for_whole_batches_of_one_worker(raw, more):
    raw["train"]["compile"] = "reduce-overhead"
    assert parse_params(raw).train.compile == "reduce-overhead"
    raw["train"] |= more
    with pytest.raises(ConfigError, match="set accumulate and workers to 1"):
        parse_params(raw)


def test_workers_may_be_the_fewest_and_the_most(raw):
    raw["train"]["workers"] = [3, 7]  # of a batch of 8: as even as can be
    params = parse_params(raw)
    assert params.train.workers == (3, 7)
    assert params.model_dump(mode="json")["train"]["workers"] == [3, 7]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"size": 256}, r"sources\.busi\.size: is 'sizes' now, a list, such as"),
        ({"sizes": 256}, r"sources\.busi\.sizes: .*got 256"),
        ({"sizes": []}, r"sources\.busi\.sizes: .*at least 1 item"),
        ({"sizes": [64, 64]}, r"sources\.busi: sizes \[64, 64\]: each once"),
        ({"sizes": [8]}, r"sources\.busi\.sizes\.0: .*greater than or equal to 32"),
    ],
)
def test_sizes_are_a_list(raw, sizes, message):
    raw["sources"]["busi"] = {"kind": "busi", **sizes}
    with pytest.raises(ConfigError, match=message):
        parse_params(raw)


@pytest.mark.parametrize(
    "name",
    ["tumor", "Drüse 2", "T2/core.a:b-c_d", "./x", "x/..", "tumor (core)", "a,b",
     "a//b", "a/../b", "a/./b", "tumor\n", "x" * 200, "x" * 230],
)  # fmt: skip
def test_classes_are_called_what_mlflow_takes_for_a_metric(raw, name):
    raw["sources"]["busi"] = {"kind": "folder", "sizes": [64], "classes": ["b", name]}
    try:
        _validate_metric(f"test.classes.{name}.false_alarms", 1.0, 1, 0)
    except MlflowException:
        with pytest.raises(ConfigError, match=r"sources\.busi: classes: '.*letters"):
            parse_params(raw)
    else:
        assert parse_params(raw).sources["busi"].classes == ("b", name)


def test_a_class_has_a_name_and_no_other_has_it(raw):
    raw["sources"]["busi"] = {"kind": "folder", "sizes": [64], "classes": ["b", "b"]}
    with pytest.raises(ConfigError, match=r"sources\.busi: classes: 'b' is .* twice"):
        parse_params(raw)
    for name in ("", " "):
        raw["sources"]["busi"]["classes"] = ["b", name]
        with pytest.raises(ConfigError, match=r"sources\.busi: classes: ' ?': metrics"):
            parse_params(raw)


def test_the_size_to_train_at_is_one_of_them(raw):
    raw["sources"]["busi"]["sizes"] = [256, 128]
    assert parse_params(raw).size("busi") == 256
    raw["train"]["size"] = 128
    params = parse_params(raw)
    assert params.size("busi") == 128
    with pytest.raises(ConfigError, match=r"train\.size: 128 is none of sources\.cvc"):
        params.size("cvc")


def test_a_missing_key_is_refused_by_name(raw):
    del raw["train"]["lr"]
    with pytest.raises(ConfigError, match=r"train\.lr: missing key"):
        parse_params(raw)


def test_an_unknown_data_set_lists_the_known_ones(raw):
    raw["datasets"] = ["kvasir"]
    with pytest.raises(
        ConfigError, match=r"'kvasir'; sources declares busi, .*synthetic"
    ):
        parse_params(raw)
    del raw["datasets"]
    with pytest.raises(ConfigError, match="datasets: missing key"):
        parse_params(raw)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(ConfigError, match="holds no keys"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("train: [")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"datasets: [synthetic]\n# 5 \xb5m\n")
    with pytest.raises(ConfigError, match=r"params\.yaml: line 2 is not UTF-8 .*0xb5"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_params(tmp_path)


def test_augment_names_a_preset(raw):
    raw["augment"] = "sonar"
    with pytest.raises(ConfigError, match=r"augment: unknown preset 'sonar'; .*paper"):
        parse_params(raw)
    raw["augment"] = raw["presets"]["paper"]
    with pytest.raises(ConfigError, match=r"augment: .*under 'presets' with a name"):
        parse_params(raw)
    raw["augment"] = "histology"
    assert parse_params(raw).transforms()[0].name == "D4"


def test_sections_are_frozen(raw):
    params = parse_params(raw)
    with pytest.raises(ValueError, match="frozen"):
        params.train.lr = 1.0


def test_every_section_is_a_stages_param(raw):
    """A section that no stage names would change a result and stay a cache hit."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    named = {p.split(".")[0] for stage in stages.values() for p in stage["params"]}
    # A recipe is values for the others.
    assert named | {"datasets", "recipes"} == set(raw)


@pytest.mark.parametrize("key", ["max_steps", "lr", "clip", "patience", "workers"])
def test_a_truth_is_no_number(raw, key):
    raw["train"][key] = True
    with pytest.raises(ConfigError, match=f"train.{key}"):
        parse_params(raw)
