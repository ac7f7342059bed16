"""Prefect, MLflow and a worker on this machine alone: `python -m infra.local up`."""
