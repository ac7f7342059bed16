"""Where checkpoints lie: which are kept, on S3, and on a disk that is full."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "services"))

import s3
from small_disk import small_disk

from kmunet.errors import ConfigError, RemoteError, SpaceError, TrainingError
from kmunet.training.space import MARGIN
from pipelines.ray_backend import Cluster, run_on_ray
from pipelines.storage import OPTIONS, Storage, chosen_storage
from pipelines.train import export

MB = 2**20


@pytest.fixture
def run(ray_cluster, tmp_path):
    """Run `loops.checkpoints_of`; return what each of its starts found."""
    import loops

    starts = tmp_path / "starts"

    def run(storage, failures=0, **config):
        values = {"bytes": 1000, "best": 2, "starts": str(starts), **config}
        cluster = Cluster(1, 1, False, failures, storage, "run")
        with run_on_ray(loops.checkpoints_of, values, cluster, print) as folder:
            assert (folder / "epoch").read_text() == str(config["epochs"])
        return starts.read_text().split()

    return run


@pytest.fixture
def keys_that_travel(s3_server, aws):
    """Ray runs since before this test: its processes have not the user's variables."""
    options = {"key": s3.KEY, "secret": s3.SECRET, "endpoint_url": s3_server.endpoint}
    aws.setattr("pipelines.storage.OPTIONS", OPTIONS | options)


@pytest.mark.slow
def test_a_killed_worker_goes_on_from_s3(run, s3_server, keys_that_travel):
    s3_server.put("runs", "made", b"")
    storage = Storage("s3://runs/some/place")
    assert run(storage, epochs=4, killed=3, failures=1) == ["nothing", "3,2,2"]
    listed = s3_server.client.list_objects_v2(Bucket="runs", Prefix="some/place/run/")
    folders = {item["Key"].split("/")[3] for item in listed["Contents"]}
    assert len([name for name in folders if name.startswith("checkpoint_0")]) == 2
    assert [name for name in folders if name.startswith("best")] == ["best-000002"]
    storage.remove("run")
    assert "Contents" not in s3_server.client.list_objects_v2(
        Bucket="runs", Prefix="some/place/run/"
    )


def test_a_run_goes_on_from_what_lies_there_and_not_by_rays_list(run, tmp_path):
    """A kill cuts the list short; a user removes a damaged folder that it names."""
    place = tmp_path / "ray"
    run(place, epochs=3)
    listed = place / "run" / "checkpoint_manager_snapshot.json"
    listed.write_bytes(listed.read_bytes()[:200])
    shutil.rmtree(max((place / "run").glob("checkpoint_0*")))
    assert run(place, epochs=4)[-1] == "2,2"
    one = max((place / "run").glob("checkpoint_0*"))
    for number in range(6):  # what kills have left
        shutil.copytree(one, one.with_name(f"checkpoint_000000000_{number}"))
    shutil.copytree(one, one.with_name(".checkpoint_000000001_7.partial"))
    listed.unlink()
    assert run(place, epochs=5)[-1].startswith("4,3,")
    left = [path.name for path in (place / "run").iterdir()]
    assert not [
        name for name in left if name.startswith((".ch", "checkpoint_000000000"))
    ]
    assert len([name for name in left if name.startswith("checkpoint_0")]) == 2


@pytest.mark.slow
def test_a_full_disk_is_told_once_and_the_run_goes_on_after(run, tmp_path, capfd):
    with small_disk(tmp_path / "disk", 10 * MB + MARGIN // 2) as disk:
        (disk / "others").write_bytes(b"x" * 4 * MB)
        with pytest.raises(TrainingError, match=f"^{disk}/run: no space for a check"):
            run(disk, epochs=5, best=3, failures=1, bytes=2 * MB)
        assert (tmp_path / "starts").read_text() == "nothing\n"
        assert "Traceback" not in "".join(capfd.readouterr())
        (disk / "others").unlink()
        assert run(disk, epochs=4, best=3, bytes=2 * MB) == ["nothing", "2,1,2"]
        kept = sorted(path.name for path in (disk / "run").glob("*-*"))
        assert (len(kept), kept[0]) == (3, "best-000003")
        assert (disk / "run/best-000003/epoch").read_text() == "3"


def test_a_disk_without_space_for_a_training_is_refused(tmp_path):
    with small_disk(tmp_path / "disk", 5 * MB) as disk:
        storage = Storage(str(disk))
        storage.check("run", MB)
        with pytest.raises(SpaceError, match=f"^{disk}: no space for 4 checkpoints: "):
            storage.check("run", 2 * MB)
        (disk / "run").mkdir()
        (disk / "run" / "checkpoint").write_bytes(b"x" * 3 * MB)
        storage.check("run", MB)  # it goes on: three of the four are there


def test_s3_that_takes_nothing_is_refused(s3_server, aws):
    s3_server.put("runs", "made", b"")
    Storage("s3://runs/place").check("run", 1)
    with pytest.raises(RemoteError, match=r"s3://missing/place: no such bucket"):
        Storage("s3://missing/place").check("run", 1)
    aws.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(RemoteError, match=r"s3://runs/place: access denied"):
        Storage("s3://runs/place").check("run", 1)


def test_the_environment_says_where(monkeypatch, tmp_path):
    monkeypatch.delenv("KMUNET_STORAGE", raising=False)
    assert chosen_storage(tmp_path).place == str(tmp_path / ".kmunet/ray")
    monkeypatch.setenv("KMUNET_STORAGE", "s3://bucket/prefix/")
    assert chosen_storage(tmp_path) == Storage("s3://bucket/prefix")
    monkeypatch.setenv("KMUNET_STORAGE", str(tmp_path / "other"))
    assert chosen_storage(tmp_path) == Storage(str(tmp_path / "other"))
    monkeypatch.setenv("KMUNET_STORAGE", "gs://bucket")
    with pytest.raises(ConfigError, match="KMUNET_STORAGE is 'gs://bucket': set it to"):
        chosen_storage(tmp_path)


def test_an_export_to_a_full_disk_says_so_and_leaves_the_model_before(tmp_path):
    saved = tmp_path / "saved"
    saved.mkdir()
    (saved / "state.json").write_text("{}")
    (saved / "best.safetensors").write_bytes(b"w" * 2 * MB)
    with small_disk(tmp_path / "disk", MB) as disk:
        (disk / "model").mkdir()
        with pytest.raises(
            SpaceError, match=f"^{disk}: no space for the model: 2,097,"
        ):
            export(saved, None, None, disk / "model")
        assert [path.name for path in disk.iterdir()] == ["model"]
