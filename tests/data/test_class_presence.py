"""What a split has no image of is said: of drawn masks with three classes, one rare."""

import numpy as np
import pytest

from kmunet.data.division import write_split
from kmunet.data.pack import write_packed
from kmunet.data.record import SPLITS
from kmunet.data.sources import open_source

NAMES = ("cyst", "duct", "tumour")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Thirty noisy images; all hold cysts and ducts, two a tumour."""
    from PIL import Image

    root = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(1)
    for kind in ("images", "masks"):
        (root / "raw" / kind).mkdir(parents=True)
    for number in range(30):
        mask = np.zeros((40, 40), np.uint8)
        mask[4:14, 4:14], mask[20:30, 4:14] = 1, 2
        mask[20:30, 20:30] = 3 if number in (5, 17) else 1
        image = random.integers(0, 256, (40, 40), np.uint8)
        Image.fromarray(image).save(root / "raw" / "images" / f"{number:02d}.png")
        Image.fromarray(mask).save(root / "raw" / "masks" / f"{number:02d}.png")
    with open_source("folder", root / "raw", NAMES) as source:
        return write_packed(root / "set", source, [32])


def test_a_class_that_a_split_lacks_is_noted(prepared, rules, tmp_path):
    found = set()
    for seed in range(20):
        packed = write_split(prepared, tmp_path / f"{seed}", rules(seed=seed), {})
        places = {
            record.split for record in packed.records if int(record.id) in (5, 17)
        }
        absent = [split for split in SPLITS if split not in places]
        (note,) = packed.division["notes"]  # one of two images, so one split at least
        assert f"'tumour' is in no image of {' and '.join(absent)} and " in note
        assert ("cannot be learnt" in note) == ("train" in absent)
        found.add("train" in absent)
    assert found == {True, False}
