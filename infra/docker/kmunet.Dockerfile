# Ray's nodes, stages and Prefect's workers: Python, constraints.txt and kmunet.
# Built from the checkout's root: docker build -f infra/docker/kmunet.Dockerfile .
#   CUDA  without more: torch from PyPI brings CUDA's libraries, the host its driver
#   CPU   --build-arg TORCH_INDEX=<PyTorch's index of CPU wheels>: 4 GB less
ARG BASE=python:3.12.12-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN python -m venv /opt/venv
WORKDIR /build
COPY constraints.txt ./
# torch first, in a layer of its own: the largest, and it changes least.
RUN torch=$(grep '^torch==' constraints.txt) && \
    /opt/venv/bin/pip install --constraint constraints.txt \
        ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${torch}"
COPY . ./
RUN /opt/venv/bin/pip install --constraint constraints.txt .

FROM ${BASE}
# g++: the CPU kernel is compiled here, Triton's launchers at first use; git: DVC and
# workspaces; wget: KubeRay's probes; tini: ends what Ray leaves. Ray's launcher and some
# KubeRays start login shells, which forget PATH.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends g++ git tini wget && \
    rm -rf /var/lib/apt/lists/* && \
    echo "PATH=/opt/venv/bin:${PATH}" > /etc/profile.d/kmunet.sh && \
    useradd --uid 1000 --create-home kmunet
COPY --from=build /opt/venv /opt/venv
COPY --chmod=0555 infra/docker/worker.sh /usr/local/bin/kmunet-worker
# Outside every home, on which volumes are mounted; all variants, for any node's CPU.
ENV KMUNET_KERNELS=/opt/kernels
RUN /opt/venv/bin/python -m kmunet.ops.cpu.build --all
ENV PATH=/opt/venv/bin:$PATH \
    DO_NOT_TRACK=1 \
    DVC_NO_ANALYTICS=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    NO_ALBUMENTATIONS_UPDATE=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_WORKER_WEBSERVER_HOST=127.0.0.1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
WORKDIR /home/kmunet
# Of a node of Ray, whose agent answers on this port; a Prefect worker has another.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["sh", "-c", "wget -q -T 4 -O- http://127.0.0.1:52365/api/local_raylet_healthz | grep -q success"]
ENTRYPOINT ["tini", "-g", "--"]
CMD ["kmunet", "doctor"]
