# Images for clusters. The target says for which machines:
#   docker build --target cpu --tag consistency_jax:cpu .
#   docker build --target gpu --tag consistency_jax:gpu .     NVIDIA: the host brings the driver, pip brings CUDA
#   docker build --target tpu --tag consistency_jax:tpu .
#   docker run --rm --gpus all consistency_jax:gpu python -m consistency_jax.train --config=... --workdir=...
# Secrets come at run time (docker run --env HF_TOKEN), never into an image.

FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
ENV PYTHONPATH=/opt/consistency_jax
WORKDIR /opt/consistency_jax
# The dependencies first: they change less often than the code, and their layer is kept. The code is found by PYTHONPATH.
COPY setup.py README.md constraints.txt ./
COPY consistency_jax/__init__.py consistency_jax/

FROM base AS cpu
RUN pip install --constraint constraints.txt .
COPY consistency_jax consistency_jax
COPY configs configs
COPY launch launch

FROM base AS gpu
RUN pip install --constraint constraints.txt '.[gpu,wandb]'
COPY consistency_jax consistency_jax
COPY configs configs
COPY launch launch

FROM base AS tpu
RUN pip install --constraint constraints.txt '.[tpu,wandb]'
COPY consistency_jax consistency_jax
COPY configs configs
COPY launch launch
