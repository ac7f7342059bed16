#!/bin/sh
# A Prefect worker beside a raylet without resources: trainings run on other nodes, but
# their driver needs a raylet on its own (Ray Train does not run through a client).
#   KMUNET_ROOT        the checkout in which flows run (prefect.yaml)
#   KMUNET_REPOSITORY  where it is cloned from, if it is not there yet
set -eu

eval "$(python -m pipelines.profile)"
if [ -n "${RAY_ADDRESS:-}" ]; then
    ray start --address="$RAY_ADDRESS" --num-cpus=0 --num-gpus=0
fi
if [ ! -e "$KMUNET_ROOT/.git" ]; then
    git clone "$KMUNET_REPOSITORY" "$KMUNET_ROOT"
fi
# Stages call .venv/bin/python: the image's.
[ -e "$KMUNET_ROOT/.venv" ] || ln -s /opt/venv "$KMUNET_ROOT/.venv"
exec prefect worker start --pool kmunet --type process --name "$(hostname)"
