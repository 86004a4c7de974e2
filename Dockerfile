# davfs from this folder alone, with the pinned dependencies. The node's folder (davfs.toml, tls/, data/) is mounted at /data:
#   davfs init --dir cluster node-1=10.0.0.1 ...     makes one folder for each machine
#   docker run -d --network host --user "$(stat -c %u:%g cluster/node-1)" -v "$PWD/cluster/node-1:/data" davfs
# Its files are readable by their owner alone, so the container runs as that user, or the folder is given to 10001.
FROM python:3.11-slim AS build
WORKDIR /source
RUN python -m venv /davfs
COPY requirements-build.txt requirements.txt ./
RUN /davfs/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt \
 && /davfs/bin/pip install --no-cache-dir --require-hashes --no-build-isolation -r requirements.txt
COPY pyproject.toml README.md ./
COPY davfs davfs
RUN /davfs/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data davfs && mkdir /data && chown davfs /data
COPY --from=build /davfs /davfs
ENV PATH=/davfs/bin:$PATH PYTHONUNBUFFERED=1
USER davfs
VOLUME /data
# WebDAV, node to node, forwarded requests: the ports that `davfs init` writes
EXPOSE 8080 8090 8091
STOPSIGNAL SIGTERM
ENTRYPOINT ["davfs"]
CMD ["serve", "--config", "/data/davfs.toml"]
