"""The process environment: no telemetry, no call home, no noise, no spinning threads.

Nothing here changes a result. It is set before the parts are imported.
"""

import os

SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # The new pages ask amplitude.com for settings, whatever the line above says.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",  # of migrations and missing GPUs it tells at INFO
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "DVC_NO_ANALYTICS": "1",
    # Waiting OpenMP threads sleep: spinning costs 5 times the CPU on shared cores.
    "OMP_WAIT_POLICY": "PASSIVE",
}


def silence() -> None:
    """Set what is not set already: a user's own choice stands."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
