# make build   set up .venv with pinned dependencies
# make run     a three-node drive on this machine, volume "demo" (data: $(DAVFS_DATA))
# make test    everything that is checked, with the Debian packages it needs (when root)
# make bench   davfs beside other servers (compat/bench)

DAVFS_DATA ?= $(HOME)/.local/share/davfs-demo
DAVFS_PORT ?= 8080

.PHONY: build dev-build packages run test lint bench locks compat-full clean

build:
	@sh scripts/setup.sh run

dev-build:
	@sh scripts/setup.sh dev

packages:
	@sh scripts/debian.sh

run: build
	@exec .venv/bin/davfs dev --nodes 3 --port $(DAVFS_PORT) --dir "$(DAVFS_DATA)" --volume demo

test: packages dev-build
	@sh scripts/test.sh $(ARGS)

lint: dev-build
	@.venv/bin/ruff check . && .venv/bin/mypy && .venv/bin/lint-imports

bench: packages dev-build
	@.venv/bin/python -m compat.bench --out bench.md $(ARGS)

compat-full: packages dev-build
	@DAVFS_FULL=1 .venv/bin/python -m pytest -q tests/compat tests/integration $(ARGS)

locks: dev-build
	@sh scripts/locks.sh

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache
