"""A data set in one file, and trainings from it where little else is installed."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import gpu_kept, gpu_pack, gpu_train
from kmunet.data.store import open_prepared
from kmunet.data.synthetic import write_synthetic
from kmunet.data.transforms import build_transform
from kmunet.training import Progress
from pipelines import prepare
from pipelines.overrides import expand, overridden
from pipelines.paths import Paths
from pipelines.split import write_split
from tests.training.seen import Seen

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
LACKING = ("ray", "prefect", "mlflow", "dvc", "pydantic", "albumentations", "monai",
           "pandas", "matplotlib", "rich", "ruamel", "yaml", "psutil")  # fmt: skip
CODE = """
import sys
sys.modules.update(dict.fromkeys({lacking!r}))  # as if they were not installed
from benchmarks.gpu_train import main
main({arguments!r})
"""
SMALL = ["model.widths=[16,6,10]", "train.epochs=2", "train.threads=1"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    paths = Paths(tmp_path_factory.mktemp("packed"), "synthetic")
    write_synthetic(paths.raw, 40, 40, seed=2)
    small = {"sources.synthetic.sizes": [32]}
    prepare.run(overridden(PARAMS, small), paths)
    return paths.prepared


@pytest.fixture(scope="module")
def file(prepared, tmp_path_factory):
    file = tmp_path_factory.mktemp("file") / "synthetic.npz"
    gpu_pack.main([str(prepared), str(file), "--seeds", "2981", "6142"])
    return file


def test_pixels_splits_and_scaling_are_those_of_the_pipeline(prepared, file, tmp_path):
    packed, own = gpu_train.read(file), open_prepared(prepared)
    pixels = np.stack([own.images[32][n] for n in range(40)])
    assert np.array_equal(packed.images.permute(0, 2, 3, 1).numpy(), pixels)
    masks = np.stack([own.masks[32][n] for n in range(40)])
    assert np.array_equal(packed.masks.numpy(), masks)
    names = [training["name"] for training in packed.meta["trainings"]]
    assert names == ["paper-2981", "paper-6142", "best-2981"]
    for number, (recipe, seed) in enumerate(n.split("-") for n in names):
        chosen = {"recipe": recipe, "split.seed": int(seed)}
        params = overridden(PARAMS, expand(PARAMS, chosen))
        settings = params.split.model_dump(mode="json")
        split = write_split(own, tmp_path / str(number), params.split, settings)
        for name in ("train", "validation", "test"):
            assert np.array_equal(packed.rows(number, name), split.indices(name))
    paper, other = (packed.rows(n, "test") for n in (0, 1))
    assert not np.array_equal(paper, other)
    assert np.array_equal(paper, packed.rows(0, "validation"))
    assert packed.meta["trainings"][0]["std"][0] > 50  # divided by 255 once more


def test_it_trains_with_little_installed(file, tmp_path):
    out = tmp_path / "result.json"
    arguments = [str(file), "--only", "paper-6142", "best-2981", "--models", "km_unet",
                 "--set", *SMALL, "--out", str(out)]  # fmt: skip
    code = CODE.format(lacking=LACKING, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    paper, best = json.loads(out.read_text())["runs"]
    assert (paper["training"], best["training"]) == ("paper-6142", "best-2981")
    assert paper["train"]["optimizer"] == "adam"
    assert (paper["model"]["layer_scale"], best["model"]["layer_scale"]) == (None, 0.1)
    for run in (paper, best):
        steps = 2 * (run["images"]["train"] // run["train"]["batch_size"])
        assert run["steps"] == steps
        assert len(run["history"]["val_iou"]) == 2
        # What was selected is what is scored: by image, on the same images.
        chosen = run["history"]["val_iou"][run["best_epoch"] - 1]
        assert run["scores"]["validation"]["iou"] == pytest.approx(chosen, abs=1e-3)
        assert 0 < run["scores"]["test"]["pooled_iou"] < 1
    assert "paper-6142 km_unet" in done.stdout


def test_the_same_time_for_every_seed(file, tmp_path):
    out, minutes = tmp_path / "result.json", 0.05
    gpu_train.main([
        str(file), "--only", "best-2981", "--models", "unet", "--seeds", "1", "2",
        "--minutes", str(minutes), "--set", "train.threads=1", "--out", str(out),
    ])  # fmt: skip
    runs = json.loads(out.read_text())["runs"]
    assert [run["train"]["seed"] for run in runs] == [1, 2]
    for run in runs:
        assert run["seconds"] > 60 * minutes
        assert run["history"]["lr"][-1] < 0.1 * run["train"]["lr"]  # it came to an end
        assert run["history"]["epoch"][-1] == len(run["history"]["epoch"])


def test_turns_and_flips_are_those_of_the_preset():
    """The same eight views in about the same shares; image and mask alike."""
    image = torch.arange(16, dtype=torch.uint8).view(1, 4, 4).expand(3, 4, 4)
    preset = overridden(PARAMS, {}).presets["paper"]
    theirs = build_transform([t.model_dump() for t in preset], 0, "presets.paper")
    plain = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    shares = []
    for ours in (True, False):
        seen: dict[bytes, int] = {}
        for number in range(16_000):
            if ours:
                stream = np.random.default_rng([1, number])
                turned, mask = gpu_train.turned(image, image[0], stream)
                view = turned[0].numpy()
            else:
                both = theirs(plain, plain[..., 0], epoch=number, image_id="a")
                view, mask = both[0][..., 0], torch.from_numpy(both[1].copy())
            assert np.array_equal(view, mask.numpy())
            key = np.ascontiguousarray(view).tobytes()
            seen[key] = seen.get(key, 0) + 1
        shares.append(seen)
    assert shares[0].keys() == shares[1].keys()
    assert len(shares[0]) == 8
    for view, count in shares[0].items():
        both = count + shares[1][view]  # the variance of their difference, at most
        assert abs(count - shares[1][view]) < 4 * both**0.5


def test_the_augmentation_hangs_on_seed_epoch_and_position_alone(file):
    packed = gpu_train.read(file)
    rows = gpu_train.Rows(packed, packed.rows(0, "train"), augment=3)
    again = gpu_train.Rows(packed, packed.rows(0, "train"), augment=3)
    for key in [(0, 1), (5, 2)]:
        for name in ("image", "mask"):
            assert torch.equal(rows[key][name], again[key][name])
    views = {rows[epoch, 1]["image"].numpy().tobytes() for epoch in range(30)}
    assert len(views) == 8


@pytest.mark.parametrize("pair", ["train.speed=1", "data.x=1", "train=1"])
def test_an_unknown_key_is_named(file, tmp_path, pair):
    arguments = [str(file), "--set", pair, "--out", str(tmp_path / "r.json")]
    with pytest.raises(SystemExit, match=pair.partition("=")[0]):
        gpu_train.main(arguments)


@pytest.mark.parametrize(
    ("option", "word"), [("--only", "paper-7"), ("--models", "km_unt")]
)
def test_an_unknown_name_is_told_before_anything_is_trained(
    file, tmp_path, capsys, option, word
):
    out = tmp_path / "r.json"
    with pytest.raises(SystemExit):
        gpu_train.main([str(file), option, word, "--out", str(out)])
    assert f"unknown: {word}; known: " in capsys.readouterr().err
    assert not out.exists()


def test_a_preset_that_it_does_not_know_is_refused(prepared, tmp_path, monkeypatch):
    text = PARAMS.read_text().replace(
        "    augment: paper\n", "    augment: histology\n"
    )
    other = tmp_path / "params.yaml"
    other.write_text(text)
    monkeypatch.setattr(gpu_pack, "PARAMS", other)
    with pytest.raises(ValueError, match="histology"):
        gpu_pack.write(prepared, tmp_path / "x.npz", (2981,))


def test_a_stopped_call_goes_on_and_what_is_done_is_not_done_again(
    file, tmp_path, monkeypatch, capsys
):
    """The stopped one has the scores of one that was not, to the last bit."""

    def run(out, *options):
        arguments = [str(file), "--only", "paper-2981", "--models", "unet"]
        given = ["--out", str(out), *options, "--set", "train.epochs=2"]
        gpu_train.main([*arguments, *given, "train.threads=1"])
        found = json.loads(out.read_text())["runs"]
        return [found[0].pop("seconds") > 0, found]

    whole = run(tmp_path / "whole.json")
    out = tmp_path / "stopped.json"
    with pytest.raises(SystemExit) as ended:
        run(out, "--stop-after", "1e-9")
    assert ended.value.code == gpu_train.STOPPED
    assert "the same command goes on from there" in capsys.readouterr().out
    assert not out.exists()
    (latest,) = tmp_path.glob("stopped.kept/paper-2981-unet-*/checkpoints/latest")
    assert json.loads((latest / "state.json").read_text())["step"] == 1
    assert run(out) == whole
    assert not latest.parent.exists()
    monkeypatch.setattr(gpu_train, "fit", lambda *_: pytest.fail("trained again"))
    assert run(out) == whole


@pytest.fixture
def clock(monkeypatch):
    """Seconds by hand."""
    now = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(gpu_kept.time, "monotonic", lambda: now.now)
    return now


def test_minutes_count_neither_first_steps_nor_saving_but_what_was_before(
    clock, tmp_path
):
    def step(kept, number, seconds):
        before = kept.share(number)
        clock.now += seconds
        assert kept.share(number) >= before

    kept = gpu_kept.Kept(tmp_path, minutes=1.0)
    step(kept, 0, 40.0)  # compiles
    step(kept, 1, 6.0)
    with kept.paused():
        clock.now += 100.0
        (tmp_path / "new").mkdir()
        kept.report({}, tmp_path / "new")
    step(kept, 2, 6.0)
    assert kept.share(2) == pytest.approx(0.2)
    again = gpu_kept.Kept(tmp_path, minutes=1.0)
    (folder,) = again.checkpoints()
    with folder:
        pass
    step(again, 1, 40.0)
    assert again.share(2) == pytest.approx(0.1)


def test_before_the_clock_a_copy_sees_a_step_and_a_validation(
    file, tmp_path, monkeypatch
):
    """And the training has the bits that it has without."""
    monkeypatch.setattr(gpu_train, "build_model", lambda **_: Seen(3, 1, 1))
    packed = gpu_train.read(file)
    changes = {"train.epochs": "1", "train.threads": "1", "train.batch_size": "7"}
    chosen = gpu_train.changed(packed.meta["trainings"][0], changes)

    def run(name):
        monkeypatch.setattr(Seen, "calls", [])
        found = gpu_train.run(packed, 0, chosen, tmp_path / name)
        del found["seconds"]
        return found, Seen.calls

    warm, seen = run("warm")
    monkeypatch.setattr(gpu_train, "warm_up", lambda *_: None)
    cold, calls = run("cold")
    assert warm == cold
    images = warm["images"]["validation"]
    batches = [(False, 7)] * (images // 7) + [(False, images % 7)]
    assert seen == [(True, 7), *batches, *calls]


def test_checkpoints_come_now_and_then_and_the_stop_in_time(clock, tmp_path):
    kept = gpu_kept.Kept(tmp_path, stops=clock.now + 300)
    assert (kept.save_now(), kept.should_stop()) == (False, False)
    clock.now += 150
    assert kept.save_now()
    clock.now += 150
    assert kept.should_stop()


def test_how_long_it_takes_is_told_soon_and_without_the_first_step(clock):
    lines = []
    said = gpu_kept.Said(lambda: None, lines.append)
    for step in range(1, 300):
        clock.now += 60.0 if step == 1 else 0.5
        said(Progress(1, 10, step, 1000, 0.5, 0.5, 16.0))
    # Half a second a step, told after 20 s and then every 30 s.
    left = [(1000 - step) * 0.5 / 60 for step in (41, 101, 161, 221, 281)]
    assert [line.split("about ")[1] for line in lines] == [
        f"{minutes:.1f} minutes left" for minutes in left
    ]


def test_of_a_budget_it_tells_what_is_left(clock, tmp_path, capsys):
    kept = gpu_kept.Kept(tmp_path, minutes=4.0)
    for step in range(4):
        kept.share(step)
        clock.now += 15.0
        kept.share(step)
        kept.progress(Progress(1, 10**6, step + 1, 10**9, 0.5, 0.5, 16.0))
    assert "about 3.5 minutes left" in capsys.readouterr().out
