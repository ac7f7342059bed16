#!/bin/sh
# A Prefect worker. The drivers of trainings join Ray's cluster from here.
#   KMUNET_ROOT        the checkout in which flows run (prefect.yaml)
#   KMUNET_REPOSITORY  where it is cloned from, if it is not there yet
set -eu

if [ ! -e "$KMUNET_ROOT/.git" ]; then
    git clone "$KMUNET_REPOSITORY" "$KMUNET_ROOT"
fi
# Stages call .venv/bin/python: the image's.
[ -e "$KMUNET_ROOT/.venv" ] || ln -s /opt/venv "$KMUNET_ROOT/.venv"
exec prefect worker start --pool kmunet --type process --name "$(hostname)" \
    --with-healthcheck
