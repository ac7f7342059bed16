# The MLflow and the Prefect server, in the versions of constraints.txt: their own
# images leave FastAPI and SQLAlchemy to chance (pyproject.toml says what breaks).
# Built from the checkout's root: docker build -f infra/docker/servers.Dockerfile .
ARG BASE=python:3.12.12-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
COPY constraints.txt /build/
RUN /opt/venv/bin/pip install --constraint /build/constraints.txt \
        asyncpg boto3 fastapi 'mlflow[auth]' prefect psycopg2-binary sqlalchemy

FROM ${BASE}
RUN useradd --uid 1000 --create-home servers
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /home/servers
# Where the server that runs here says that it is well.
ENV HEALTH=http://127.0.0.1:5000/health
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD \
    ["python", "-c", "import os, urllib.request as r; r.urlopen(os.environ['HEALTH'], timeout=4)"]
EXPOSE 5000 4200
CMD ["mlflow", "server", "--host", "127.0.0.1", "--port", "5000"]
