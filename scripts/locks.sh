#!/bin/sh
# Compiles requirements*.in into hashed pins. pip-tools is needed only here, so it is not pinned itself.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/python -m pip install --quiet pip-tools
compile() {
    .venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host "$@"
}
compile --output-file requirements-build.txt requirements-build.in
compile --output-file requirements.txt requirements.in
compile --constraint requirements.txt --constraint requirements-build.txt \
    --output-file requirements-dev.txt requirements-dev.in
