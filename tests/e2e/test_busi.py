"""The main job on the real BUSI archive, and its model in an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

DATA = os.environ.get("KMUNET_TEST_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="KMUNET_TEST_DATA names no folder with the real archives"
)
CONSUMER = """
import mlflow, numpy as np, sys
from PIL import Image
model = mlflow.pyfunc.load_model("models:/kmunet-busi@champion")
image = np.array(Image.open(sys.argv[1]))
found = model.predict(image)
print(found.shape == image.shape[:2], found.dtype, 0 <= found.min(), found.max() <= 1)
"""


@needs_data
@pytest.mark.timeout(900)
def test_busi_through_the_flow_and_out_of_the_registry(checkout, first_run, tmp_path):
    archive = Path(DATA, "Dataset_BUSI.zip")
    done = checkout.flow(
        "--dataset", "busi", "--raw", f"busi={archive}", "--set", "train.epochs=1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "117 test images" in done.stdout
    assert checkout.git("status", "--porcelain") == ""

    with zipfile.ZipFile(archive) as file:
        name = "Dataset_BUSI_with_GT/malignant/malignant (3).png"
        member = next(m for m in file.namelist() if m.endswith(name.split("/", 1)[1]))
        (tmp_path / "image.png").write_bytes(file.read(member))
    consumer = subprocess.run(
        [sys.executable, "-c", CONSUMER, "image.png"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": "",
            "MLFLOW_TRACKING_URI": f"sqlite:///{checkout.root}/.kmunet/mlflow.db",
        },
        capture_output=True,
        text=True,
    )
    assert consumer.stdout == "True float32 True True\n", consumer.stderr
