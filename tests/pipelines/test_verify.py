"""`kmunet verify` of what another split than data/splits was trained on."""

from kmunet.cli import main
from pipelines.receipt import read_receipt
from tests.pipelines.workspaces import tiny_workspace, verified


def test_a_fold_is_replayed_on_its_own_images(tmp_path, monkeypatch):
    """Three folds are compared; data/splits has one split."""
    paths, _ = tiny_workspace(tmp_path)
    monkeypatch.chdir(paths.root)
    several = ("--models", "u_kan", "--folds", "3", "--epochs", "1")
    assert main(["compare", paths.dataset, *several]) == 0
    models = (paths.root / ".kmunet" / "compare").glob("*/model/synthetic")
    (second,) = [m for m in models if read_receipt(m).params["split"]["fold"] == 1]
    losses = len(read_receipt(second).losses)
    said = f"synthetic: reproduces: the first {losses} losses are the same bits"
    assert verified(paths.root, second).strip() == said  # and nothing of other data
