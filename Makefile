# What a newcomer needs: `make serve`. What a contributor needs: `make check quick`, and `make test` before a push.
# Each target sets up what it misses. Another Python: `make test PYTHON=python3.13 VENV=.venv-3.13`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 4
BUILDER ?= docker
BUILD_FLAGS ?=
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' dbgpt_ctl/__init__.py)
export CTL_INTEROP_VENVS ?= $(CURDIR)/.venv-interop

.PHONY: help serve image quick test hostile chaos monitoring browser deploy check bench soak generate clean

help:
	@echo "make serve     start a controller on the embedded registry (settings: CONTROLLER_* in the environment or .env)"
	@echo "make image     build the container image dbgpt-ctl:VERSION with docker, or with BUILDER=podman or buildah"
	@echo "make quick     run the most useful tests, in two minutes"
	@echo "make test      run all tests, with real MariaDB, MySQL and PostgreSQL and the real DB-GPT packages"
	@echo "make hostile   attack the commands and the controller with hostile bytes, files and readers (four minutes)"
	@echo "make chaos     kill, stop and freeze controllers and databases under load (ten minutes)"
	@echo "make monitoring  let a real Prometheus scrape two controllers, and see each alert fire and end (five minutes)"
	@echo "make browser   use the console page in a real Chromium, on real controllers (five minutes)"
	@echo "make deploy    check each file of deploy/ with its own tool, build the image and run it"
	@echo "make check     ruff, mypy, and the types of the JavaScript of the console page"
	@echo "make bench     measure this controller and DB-GPT's side by side, and write docs/figures.md (a quarter of an hour)"
	@echo "make soak      100,000 instances beat for five minutes against one controller over one MariaDB, then for one minute on a connection for each beat"
	@echo "make generate  rewrite what is generated: .env.example, the tables and schemas of docs/, completions/"
	@echo "make clean     remove the virtual environments and caches"

serve: $(VENV)/.serve
	@exec $(BIN)/ctl serve

# The format is docker's because that of OCI has no health check; podman and buildah read the variable.
image: export BUILDAH_FORMAT = docker
image:
	$(BUILDER) build --file deploy/container/Containerfile --build-arg VERSION=$(VERSION) --tag dbgpt-ctl:$(VERSION) $(BUILD_FLAGS) .

quick: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n $(WORKERS) -m quick

test: $(VENV)/.dev
	@sh scripts/apt-install.sh mariadbd mariadb-server 'the tests of the MySQL registry are skipped without it'
	@sh scripts/mysql-install.sh .mysql
	@sh scripts/apt-install.sh pg_ctlcluster postgresql 'the tests of the PostgreSQL registry are skipped without it'
	@sh scripts/apt-install.sh nginx nginx-light 'the tests of a controller behind a proxy are skipped without it'
	@sh scripts/apt-install.sh zsh zsh 'the tests of its completion are skipped without it'
	@sh scripts/apt-install.sh fish fish 'the tests of its completion are skipped without it'
	@sh scripts/apt-install.sh shellcheck shellcheck 'the check of the script of a pipeline is skipped without it'
	@sh scripts/apt-install.sh faketime faketime 'the tests of a controller whose clock is wrong are skipped without it'
	-@$(BIN)/python -m tests.support.dbgpt  # without a Python 3.11 its tests are skipped
	$(BIN)/python -m pytest -n $(WORKERS) $(if $(MARKERS),-m "$(MARKERS)")

hostile: $(VENV)/.dev
	@sh scripts/apt-install.sh mariadbd mariadb-server 'the scenarios on a database are skipped without it'
	@sh scripts/mysql-install.sh .mysql
	@sh scripts/apt-install.sh pg_ctlcluster postgresql 'the tests of the PostgreSQL registry are skipped without it'
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/hostile

chaos: $(VENV)/.dev
	@sh scripts/apt-install.sh mariadbd mariadb-server 'the chaos suite is skipped without it'
	@sh scripts/mysql-install.sh .mysql
	@sh scripts/apt-install.sh pg_ctlcluster postgresql 'the tests of the PostgreSQL registry are skipped without it'
	@sh scripts/apt-install.sh /usr/lib/galera/libgalera_smm.so galera-4 'the scenarios on a cluster are skipped without it'
	@sh scripts/apt-install.sh rsync rsync 'the scenarios on a cluster are skipped without it'
	@sh scripts/apt-install.sh faketime faketime 'the scenario of clocks that are off is skipped without it'
	-@$(BIN)/python -m tests.support.dbgpt  # without a Python 3.11 the scenario with its clients is skipped
	$(BIN)/python -m pytest tests/chaos

monitoring: $(VENV)/.dev
	@sh scripts/apt-install.sh mariadbd mariadb-server 'the alerts of a database are skipped without it'
	@sh scripts/apt-install.sh promtool prometheus 'the suite is skipped without it'
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/monitoring

browser: $(VENV)/.browser
	@sh scripts/apt-install.sh chromium chromium 'the suite is skipped without it'
	@sh scripts/npm-install.sh 'the console page is not checked for accessibility without them'
	@sh scripts/apt-install.sh mariadbd mariadb-server 'the outages of a database are skipped without it'
	-@$(BIN)/python -m tests.support.dbgpt  # without a Python 3.11 the test with its worker is skipped
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/browser

deploy: $(VENV)/.deploy
	@sh scripts/apt-install.sh systemd-analyze systemd 'the check of the unit is skipped without it'
	@sh scripts/apt-install.sh docker-compose docker-compose 'the check of deploy/compose is skipped without it'
	@sh scripts/apt-install.sh mariadbd mariadb-server 'what deploy/ describes does not run without it'
	@sh scripts/apt-install.sh promtool prometheus 'the Prometheus of deploy/compose does not run without it'
	@sh scripts/apt-install.sh buildah buildah 'the image is not built without it'
	@sh scripts/apt-install.sh /usr/lib/podman/netavark netavark 'buildah does not start without it'
	@sh scripts/apt-install.sh mmdebstrap mmdebstrap 'the base of the image is not made without it'
	@sh scripts/apt-install.sh bwrap bubblewrap 'the image does not run without it where buildah cannot'
	$(BIN)/python -m pytest tests/deploy

check: $(VENV)/.browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@sh scripts/npm-install.sh 'the JavaScript of the console page is not checked without them'
	@if [ -e node_modules/.installed ]; then echo node_modules/.bin/tsc && node_modules/.bin/tsc; fi

bench: $(VENV)/.browser
	@sh scripts/apt-install.sh wrk wrk 'the benchmarks measure with it'
	@sh scripts/apt-install.sh chromium chromium 'the console page is measured in it'
	@sh scripts/apt-install.sh mariadbd mariadb-server 'a part of the benchmarks runs over it'
	@sh scripts/apt-install.sh pg_ctlcluster postgresql 'a part of the benchmarks runs over it'
	@sh scripts/mysql-install.sh .mysql
	$(BIN)/python -m tests.support.dbgpt
	$(BIN)/python -m benchmarks --mysql --soak --new-connections --write

soak: $(VENV)/.dev
	@sh scripts/apt-install.sh wrk wrk 'the benchmarks measure with it'
	@sh scripts/apt-install.sh mariadbd mariadb-server 'the soak runs over it'
	$(BIN)/python -m benchmarks --only soak --check
	$(BIN)/python -m benchmarks --only soak --new-connections --check

generate: $(VENV)/.dev
	$(BIN)/python -m scripts.generate

clean:
	rm -rf .venv .venv-* .mysql node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@sh scripts/make-venv.sh $(PYTHON) $(VENV)

# compat: a line in a .pth file. Setuptools' other way is a finder that costs each start of `ctl` 14 ms.
$(VENV)/.serve: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@ $(VENV)/.serve

$(VENV)/.deploy: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev,deploy]'
	@touch $@

$(VENV)/.browser: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev,browser]'
	@touch $@
