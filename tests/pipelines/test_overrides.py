import shutil
from pathlib import Path

import pytest
import yaml

from kmunet.errors import ConfigError
from pipelines.overrides import expand, overridden, parse, write

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture
def path(tmp_path):
    return Path(shutil.copy(PARAMS, tmp_path))


def test_values_reach_the_typed_sections(path):
    values = {"train.lr": 1e-4, "model.widths": [8, 16, 24],
              "augment": "ultrasound", "presets.ultrasound.0.args.p": 0.25}  # fmt: skip
    params = overridden(path, values)
    assert params.train.lr == 1e-4
    assert params.model.widths == (8, 16, 24)
    assert params.transforms()[0].args["p"] == 0.25
    assert path.read_text() == PARAMS.read_text()


def test_the_written_file_means_the_same_and_keeps_its_comments(path):
    values = {"train.lr": 1e-5, "datasets": ["busi", "synthetic"]}
    write(path, values)
    assert overridden(path, {}) == overridden(PARAMS, values)
    assert isinstance(yaml.safe_load(path.read_text())["train"]["lr"], float)
    comments = [line for line in PARAMS.read_text().splitlines() if "#" in line]
    kept = [line for line in path.read_text().splitlines() if "#" in line]
    assert len(kept) == len(comments)
    assert "datasets: [busi, synthetic]" in path.read_text()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.lr", 99, ["train.lr", "99", "10"]),
        ("train.typo", 1, ["train.typo", "unknown key"]),
        ("trian.lr", 1, ["trian.lr", "'trian'"]),
        ("train.lr.x", 1, ["train.lr.x", "no keys"]),
        ("presets.paper.7.args", 1, ["presets.paper.7.args", "0 to 2"]),
        ("train.epochs", "many", ["train.epochs", "many"]),
        ("augment", "sonar", ["augment", "'sonar'", "paper, ultrasound"]),
    ],
)
def test_a_bad_override_names_its_key(path, key, value, words):
    with pytest.raises(ConfigError) as caught:
        overridden(path, {key: value})
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("train.lr=1e-4", ("train.lr", 1e-4)),
        ("train.optimizer=sgd", ("train.optimizer", "sgd")),
        ("model.kan=false", ("model.kan", False)),
        ("model.widths=[8, 16, 24]", ("model.widths", [8, 16, 24])),
        ("a.classes=[benign, malignant]", ("a.classes", ["benign", "malignant"])),
        ("a.values=[dark,2]", ("a.values", ["dark", 2])),
        ('a.classes=["b, c"]', ("a.classes", ["b, c"])),
    ],
)
def test_the_command_line_is_read_as_json_else_text(text, pair):
    assert parse(text) == pair


def test_a_pair_without_a_value_is_refused():
    with pytest.raises(ConfigError, match="key=value"):
        parse("train.lr")


@pytest.mark.parametrize("name", yaml.safe_load(PARAMS.read_text())["recipes"])
def test_every_recipe_is_valid_and_yields_to_what_is_said_beside_it(path, name):
    recipe = yaml.safe_load(PARAMS.read_text())["recipes"][name]
    values = expand(path, {"train.epochs": 3, "recipe": name})
    assert values == recipe | {"train.epochs": 3}
    assert overridden(path, values).train.epochs == 3


def test_the_papers_recipe_is_its_codes(path):
    params = overridden(path, expand(path, {"recipe": "paper"}))
    assert (params.split.protocol, params.split.seed) == ("paper", 2981)
    assert (params.train.epochs, params.train.batch_size) == (400, 8)
    assert (params.train.lr, params.train.kan_lr) == (1e-4, 1e-2)
    assert (params.train.optimizer, params.train.scaling) == ("adam", "published")
    assert params.sources["busi"].classes == ("benign", "malignant")
    sizes = {name: source.sizes for name, source in params.sources.items()}
    assert sizes.pop("glas") == (512,)  # as both repositories' scripts have it
    assert {n: s for n, s in sizes.items() if n != "synthetic"} == dict.fromkeys(
        ("busi", "cvc", "isic2017", "isic2018"), (256,)
    )


def test_an_unknown_recipe_lists_those_there_are(path):
    with pytest.raises(ConfigError, match=r"'gold' is none of .* recipes: .*paper"):
        expand(path, {"recipe": "gold"})
    with pytest.raises(ConfigError, match=r"'\['paper', 'best'\]' is none of"):
        expand(path, {"recipe": ["paper", "best"]})
