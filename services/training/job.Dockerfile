# One training as a process of its own, with torch: several gigabytes that the service itself can do without. The rest
# is as in the services' Dockerfiles, which tests/images holds it to.

# Python 3.11 or newer with venv and pip. The environment is made with its interpreter and run by it.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
COPY requirements/ml.txt /requirements/
# Bytecode is found by what the source has in it, whatever happens to time stamps: nothing can write it later.
RUN python3 -m venv --without-pip /opt/duologue \
    && python3 -m pip --python /opt/duologue/bin/python install --no-cache-dir --no-compile --no-deps \
        --only-binary :all: --require-hashes -r /requirements/ml.txt \
    && /opt/duologue/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/duologue/lib

FROM dependencies AS service
COPY requirements/tools.txt /requirements/
RUN python3 -m venv /tools \
    && /tools/bin/python -m pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes \
        -r /requirements/tools.txt
COPY libs/duologue /source/duologue
COPY services/training /source/training
# Apart from what they depend on, and made for its place: the layer that services share stays as it is.
RUN /tools/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source/* \
    && python3 -m pip --python /opt/duologue/bin/python install --no-compile --no-deps --no-index \
        --prefix /own/opt/duologue /wheels/*.whl \
    && /opt/duologue/bin/python -m compileall -q -s /own --invalidation-mode unchecked-hash /own/opt/duologue/lib \
    && cp -a /own/opt/duologue/. /opt/duologue/ \
    && /tools/bin/cyclonedx-py environment --output-reproducible --pyproject /source/training/pyproject.toml \
        --output-file /own/opt/duologue/sbom.cdx.json /opt/duologue/bin/python \
    && mkdir -p /own/var/lib/duologue

FROM scratch AS sbom
COPY --from=service /own/opt/duologue/sbom.cdx.json /

FROM ${PYTHON_IMAGE}
COPY --from=dependencies /opt/duologue /opt/duologue
# The root may be read-only: what is written goes to /tmp, or where the settings say.
ENV PATH=/opt/duologue/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2
COPY --from=service --chown=10001:10001 /own/var/lib/duologue /var/lib/duologue
COPY --from=service /own/opt/duologue /opt/duologue
WORKDIR /var/lib/duologue
USER 10001:10001
ENTRYPOINT ["/opt/duologue/bin/python", "-m", "duologue_training.pod"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="duologue-training-job" \
    org.opencontainers.image.description="One training: a sealed dataset becomes a LoRA adapter" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.source="${SOURCE}"
