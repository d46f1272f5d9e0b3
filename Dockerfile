# Millstream as an image, for docker-compose.yml beside it: what is locked, and the wheel, run by a user of no rights.
# A project is mounted at /project.

FROM python:3.11-slim AS build
WORKDIR /source
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/build && \
    /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt && \
    python -m venv /opt/millstream && \
    /opt/millstream/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY nodes nodes
COPY connectors connectors
COPY millstream millstream
RUN /opt/build/bin/pip wheel --no-cache-dir --no-index --no-deps --no-build-isolation --wheel-dir /wheels . && \
    /opt/millstream/bin/pip install --no-cache-dir --no-index --no-deps /wheels/*.whl

FROM python:3.11-slim
COPY --from=build /opt/millstream /opt/millstream
RUN useradd --uid 10001 --create-home millstream && install -d -o millstream /project
ENV PATH=/opt/millstream/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /project
EXPOSE 8787
ENTRYPOINT ["millstream"]
CMD ["up", "--host", "0.0.0.0"]
