"""The whole cluster profile on this machine: `python -m infra.cluster up`."""
