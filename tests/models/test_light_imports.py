"""ops, nn and models need torch and numpy alone."""

import subprocess
import sys

SCRIPT = """
import sys
HEAVY = {"pydantic", "yaml", "albumentations", "cv2", "ray", "prefect", "mlflow", "dvc",
         "monai", "torchvision", "timm", "einops", "scipy", "sklearn", "matplotlib",
         "pandas", "PIL"}

# As if not installed: an import fails, and looking for it finds nothing.
sys.modules.update(dict.fromkeys(HEAVY))
import torch
import kmunet.ops, kmunet.nn, kmunet.models
model = kmunet.models.build_model("km_unet", widths=(8, 4, 4)).eval()
print(tuple(model(torch.zeros(1, 3, 32, 32)).shape))
assert not any(sys.modules[name] for name in HEAVY)
"""


def test_torch_and_numpy_are_enough():
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "(1, 1, 32, 32)"
    assert found.stderr == ""
