"""The page in a real browser, without network."""

import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from kmunet.report import write_report
from kmunet.report.contours import GREEN, MAGENTA

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_renders_with_its_pictures(tmp_path, make_report):
    page = write_report(tmp_path / "report", make_report())
    shot = tmp_path / "page.png"
    subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}",
         "--window-size=1200,4200", f"--screenshot={shot}", page.as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (4200, 1200, 3)
    for colour in (GREEN, MAGENTA):
        lines = (pixels == np.array(colour)).all(axis=-1)
        assert lines[1500:].any(), "an outline of the gallery"
