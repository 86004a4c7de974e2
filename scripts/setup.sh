#!/bin/sh
# Makes .venv with the pinned dependencies and davfs itself: `setup.sh` for running, `setup.sh dev` for testing too.
# Does nothing when what it would install is there already.
set -eu
cd "$(dirname "$0")/.."
kind=${1:-run}
locks="requirements-build.txt requirements.txt"
[ "$kind" = run ] || locks="$locks requirements-dev.txt"

fail() { echo "davfs: $*" >&2; exit 1; }

is_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

# A version manager's shim may be found and still not run, so each candidate is tried.
find_python() {
    for candidate in ${PYTHON:-} python3.11 python3 /usr/bin/python3.11 /usr/local/bin/python3.11; do
        if is_311 "$candidate"; then echo "$candidate"; return; fi
    done
    fail "Python 3.11 is needed and was not found (Debian 12: apt-get install python3 python3-venv), or set PYTHON"
}

if ! is_311 .venv/bin/python; then
    python=$(find_python)
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module: as root, apt-get install python3-venv, then run this again"
    echo "davfs: making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
fi

# Node's packages that the tests drive, where npm is: as pinned, checked by their digests, no scripts of theirs run.
node_packages() {
    command -v npm >/dev/null || return 0
    node_wanted=$(cat compat/node/package.json compat/node/package-lock.json | sha256sum)
    [ "$(cat .venv/node/davfs.stamp 2>/dev/null)" = "$node_wanted" ] && return 0
    echo "davfs: installing Node's pinned packages"
    mkdir -p .venv/node
    cp compat/node/package.json compat/node/package-lock.json .venv/node/
    if npm ci --prefix .venv/node --silent --ignore-scripts --no-audit --no-fund; then
        echo "$node_wanted" > .venv/node/davfs.stamp
    else
        echo "davfs: npm ci failed in .venv/node (is npm's registry reachable?): its tests will say so" >&2
    fi
}

[ "$kind" = run ] || node_packages
stamp=.venv/davfs-$kind.stamp
wanted=$(cat $locks pyproject.toml | sha256sum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && [ -x .venv/bin/davfs ] && exit 0

echo "davfs: installing the pinned dependencies ($kind)"
install() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }
install --require-hashes -r requirements-build.txt
# Without isolation pysyncobj is built by the pinned tools above instead of by whatever is newest today.
install --require-hashes --no-build-isolation -r requirements.txt
[ "$kind" = run ] || install --require-hashes --no-build-isolation -r requirements-dev.txt
install --no-deps --no-build-isolation --editable .
echo "$wanted" > "$stamp"
[ "$kind" = run ] || cat requirements-build.txt requirements.txt pyproject.toml | sha256sum > .venv/davfs-run.stamp
