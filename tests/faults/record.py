"""What a fault did, measured by the test that injected it: a row of a table."""

import json
import os
from pathlib import Path


def record(fault, what_happens, what_is_kept, seconds):
    """Add a line of JSON to the file that KMUNET_FAULTS_TABLE names, if it names one.

    seconds: from the fault until work went on (or the error was told).
    """
    if not (name := os.environ.get("KMUNET_FAULTS_TABLE")):
        return
    row = {
        "fault": fault,
        "what_happens": what_happens,
        "what_is_kept": what_is_kept,
        "seconds": round(float(seconds), 1),
    }
    with Path(name).open("a", encoding="utf-8") as table:
        table.write(json.dumps(row) + "\n")
