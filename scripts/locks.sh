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
# Node's packages: digests, and no addresses (npm asks its own registry for each name and version).
cd compat/node
npm install --silent --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund
../../.venv/bin/python - <<'EOF'
import json
from pathlib import Path

file = Path("package-lock.json")
lock = json.loads(file.read_text())
for package in lock["packages"].values():
    package.pop("funding", None)
file.write_text(json.dumps(lock, indent=2) + "\n")
EOF
