# Two images from one file; README.md has the commands:
#   docker build --target cpu --build-arg TORCH_INDEX=<wheel index of PyTorch's CPU builds> -t clmer:cpu .
#   docker build --target cuda -t clmer:cuda .
# The CUDA libraries come with PyTorch's wheels, so the plain Python image serves for both.
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS base
# OpenCV's wheels leave libGL and GLib to the system.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home clmer
WORKDIR /srv/clmer
COPY constraints.txt ./
COPY examples examples
# Nothing is written outside /tmp: the container may be run with --read-only --tmpfs /tmp.
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    CLMER_HOST=0.0.0.0 \
    CLMER_PORT=8765
EXPOSE 8765
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['CLMER_PORT']}/healthz\", timeout=2)"]
ENTRYPOINT ["clmer-serve"]

FROM base AS cpu
ARG TORCH_INDEX=""
RUN test -n "$TORCH_INDEX" \
    || { echo "the cpu image needs --build-arg TORCH_INDEX=<wheel index of PyTorch's CPU builds>" >&2; exit 1; }
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep -o '^torch==[0-9.]*' constraints.txt)"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c constraints.txt /wheels/*.whl
USER clmer

FROM base AS cuda
ARG TORCH_INDEX=""
# Without an index, pip takes PyTorch's default build for Linux, which is one for CUDA.
RUN test -z "$TORCH_INDEX" \
    || pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" "$(grep -o '^torch==[0-9.]*' constraints.txt)"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c constraints.txt /wheels/*.whl
USER clmer
