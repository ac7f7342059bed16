"""What made the data cannot be given to a sweep or a comparison of prepared data."""

from pathlib import Path

import pytest
import yaml

from kmunet.config import parse_params
from kmunet.data.store import open_prepared
from kmunet.data.synthetic import write_synthetic
from kmunet.errors import ConfigError, DataError
from pipelines import prepare
from pipelines.as_prepared import check_given, check_prepared, how_to_prepare
from pipelines.overrides import expand, overridden
from pipelines.paths import Paths

ROOT = Path(__file__).parents[2]
FILE = ROOT / "params.yaml"
BASE = overridden(FILE, {})


def check(values, dataset="busi"):
    params = overridden(FILE, expand(FILE, values))
    check_given(BASE, params, dataset, how_to_prepare(params, dataset))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sources.busi.classes": ["benign"]}, r"sources\.busi\.classes: busi is"),
        (
            {"sources.busi.kind": "folder"},
            r"sources\.busi\.kind: .*\"busi\", not \"folder\"",
        ),
        ({"sources.busi.sizes": [64]}, r"sources\.busi\.sizes: .*not \[64\]"),
        ({"sources.busi.values": [1]}, r"sources\.busi\.values: "),
        ({"recipe": "paper"}, r"set it there, then `.*prepare --dataset busi`"),
        ({"prepare.native": False}, r"prepare\.native: .* not false"),
        ({"synthesize.seed": 3}, r"synthesize\.seed: "),
        ({"train.workers": 2}, r"train\.workers: .* one process"),
    ],
)
def test_what_made_the_data_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        check(values)


@pytest.mark.parametrize(
    "values",
    [
        {"sources.busi.classes": ["benign", "malignant", "normal"]},  # as it is
        {"sources.cvc.sizes": [64]},
        {"train.lr": 1e-4, "split.folds": 3, "evaluate.threshold": 0.4},
    ],
)
def test_what_is_so_already_or_is_of_other_data_passes(values):
    check(values)


def test_the_remedy_is_a_command_that_there_is():
    assert how_to_prepare(BASE, "synthetic") == "`dvc repro prepare@synthetic`"
    assert "-m pipelines.prepare --dataset busi" in how_to_prepare(BASE, "busi")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """BUSI's layout, benign and malignant of three classes; and a folder's."""
    root = tmp_path_factory.mktemp("made")
    write_synthetic(root / "drawn", 9, 40, seed=1)
    images = sorted((root / "drawn/images").iterdir())
    for number, image in enumerate(images):
        category = ("benign", "malignant", "normal")[number % 3]
        place = root / f"data/raw/busi/{category}/{category} ({number + 1}).png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.rename(place)
        mask = root / "drawn/masks" / image.name
        mask.rename(place.with_name(f"{place.stem}_mask.png"))
    params = params_with(classes=["malignant", "benign"], sizes=[32])
    prepare.run(params, Paths(root, "busi"))
    return open_prepared(Paths(root, "busi").prepared)


def params_with(native=True, **source):
    raw = yaml.safe_load(FILE.read_text())
    raw["sources"]["busi"] = {"kind": "busi", **source}
    raw["prepare"]["native"] = native
    return parse_params(raw)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["benign", "malignant", "normal"]}, r"classes \[.*\"normal\"\]"),
        ({"classes": ["benign"]}, r"sources\.busi\.classes .* run it$"),
        ({"sizes": [64]}, r"sources\.busi\.sizes \[32\], but params.yaml has \[64\]"),
        ({"kind": "folder", "classes": None}, r"sources\.busi\.kind \"busi\""),
        ({"native": False}, r"prepare\.native true, but params.yaml has false"),
    ],
)
def test_data_that_were_made_otherwise_are_refused(prepared, changes, message):
    as_made = {"classes": ["benign", "malignant"], "sizes": [32]}
    check_prepared(prepared, params_with(**as_made), "busi", "run it")
    with pytest.raises(DataError, match=message):
        check_prepared(prepared, params_with(**as_made | changes), "busi", "run it")
