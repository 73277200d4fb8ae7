# make demo, make test: everything from nothing. The rest is for who works on gred.
#
# Needs the packages that README.md lists. Without gcc or python3-dev no C extension is built: gred then
# runs its pure-Python twin, and says so.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := $(wildcard gred/dataplane/native/*.[ch])

.PHONY: venv demo test lint format generated sanitize sanitized fuzz bench diagnosis guest install uninstall clean

venv: $(VENV)/.runtime

$(VENV)/.runtime: pyproject.toml $(NATIVE)
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "no virtual environment: apt install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@$(BIN)/python -c 'from gred.dataplane import codec; print("gred is in $(BIN)/gred; codec:", \
	    codec.IMPLEMENTATION, "" if codec.IMPLEMENTATION == "c" else \
	    "(no C extension, 12 times slower: apt install gcc python3-dev, then make clean venv)")'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: venv
	$(BIN)/gred demo $(DEMO)

# PYTEST adds arguments, as in: make test PYTEST='tests/wire -k checksum'; -n0 runs all in one process.
# Most tests wait for something most of the time: there is one process more than there are cores. What
# is in one file stays in one process, in its order, and tests/conftest.py has the longest begin early.
WORKERS  := -n $(shell expr $$(nproc) + 1)
PARALLEL := $(WORKERS) --dist loadfile --no-loadscope-reorder
test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(NATIVE)

# What is made of gred's own tables: manual pages and completions; a test tells when to.
generated: $(VENV)/.dev
	$(BIN)/python -m tools

# The extension under AddressSanitizer and UndefinedBehaviorSanitizer, warnings as errors, in a copy of
# the tree so that the ordinary build stays as it is.
SANITIZED := build/sanitized
SANITIZE  := -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
STRICT    := -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wvla -Wconversion -Wno-sign-conversion

CLANG     := $(shell command -v clang || ls /usr/bin/clang-[0-9]* 2>/dev/null | sort -V | tail -1)
CLANG_RT  := $(if $(CLANG),$(wildcard $(shell $(CLANG) -print-file-name=libclang_rt.asan-$(shell uname -m).so)))

# Which sources an extension is made of: what pyproject.toml says.
define SOURCES
import sys, tomllib
modules = tomllib.load(open("pyproject.toml", "rb"))["tool"]["setuptools"]["ext-modules"]
print(*next(one["sources"] for one in modules if one["name"] == sys.argv[1]))
endef
export SOURCES

# The other compiler sees other errors; it looks at the codec alone, where it is installed.
sanitize: $(VENV)/.dev
	$(MAKE) sanitized CC="$(CC)" CHECKED="tests/dataplane tests/wire" \
	    RUNTIME="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)"
	$(if $(CLANG_RT),$(MAKE) sanitized CC="$(CLANG) -shared-libsan" CHECKED="tests/dataplane -k codec" \
	    RUNTIME="$(CLANG_RT)",\
	    @echo "clang or its libclang-rt is not installed: the codec was looked at with $(CC) alone")

sanitized:
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -r gred tests conf pyproject.toml $(SANITIZED)/
	rm -f $(SANITIZED)/gred/dataplane/*.so
	for module in codec io; do \
	    sources=$$($(BIN)/python -c "$$SOURCES" gred.dataplane._$$module) || exit 1; \
	    $(CC) $(STRICT) $(SANITIZE) -fPIC -shared -DPy_LIMITED_API=0x030b0000 \
	        $$($(BIN)/python -c 'import sysconfig; print("-I" + sysconfig.get_path("include"))') \
	        $$sources \
	        -o $(SANITIZED)/gred/dataplane/_$$module.abi3.so || exit 1; \
	done
	cd $(SANITIZED) && ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc LD_PRELOAD="$(RUNTIME)" \
	    $(CURDIR)/$(BIN)/python -m pytest $(PARALLEL) -p no:cacheprovider $(CHECKED) $(PYTEST)

# BENCH adds arguments, as in: make bench BENCH=--quick
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(BENCH)

# Plants 134 faults between two hosts, as root, and writes what gred said of each: docs/diagnosis.md.
diagnosis: $(VENV)/.dev
	$(BIN)/python -m tests.netns.diagnosis_document

# The service in a small Debian with its own systemd, in QEMU; as root. The first time it downloads
# kernel and system, a quarter of a gigabyte.
guest: $(VENV)/.dev
	$(BIN)/python -m tests.interop.kernel
	$(BIN)/python -m tests.systemd.root
	$(BIN)/python -m pytest tests/systemd $(PYTEST)

# gred as a service. PREFIX is a virtual environment of gred's own, so that neither this directory nor
# a compiler is needed afterwards, and not below /root or /home, which the service does not see.
# DESTDIR, for packages, goes before every path, and then nothing outside it is touched: the package
# makes the user gred and gives its group /etc/gred/gred.conf.
PREFIX     := /opt/gred
SBINDIR    := /usr/local/sbin
UNITDIR    := /etc/systemd/system
SYSUSERS   := /etc/sysusers.d
DATADIR    := /usr/local/share
MANDIR     := $(DATADIR)/man
BASHDIR    := $(DATADIR)/bash-completion/completions
ZSHDIR     := $(DATADIR)/zsh/site-functions
FISHDIR    := $(DATADIR)/fish/vendor_completions.d
DESTDIR    :=
HERE       := $(DESTDIR)$(PREFIX)
IF_SYSTEMD := test -n "$(DESTDIR)" || ! test -d /run/systemd/system ||

install:
	@test ! -e $(HERE) || test -e $(HERE)/pyvenv.cfg || \
	    { echo "$(HERE) is there and is not gred's: PREFIX is a directory for gred alone"; exit 1; }
	@umask 022; $(PYTHON) -m venv $(HERE) || \
	    { echo "no virtual environment: apt install python3-venv" >&2; exit 1; }
	umask 022; $(HERE)/bin/pip install --quiet --disable-pip-version-check .
	@cd / && $(HERE)/bin/python -c 'from gred.dataplane import codec; print("codec:", codec.IMPLEMENTATION, \
	    "" if codec.IMPLEMENTATION == "c" else "(no C extension, 12 times slower: apt install gcc python3-dev)")'
	test -z "$(DESTDIR)" || sed -i "1s|^#!$(HERE)/|#!$(PREFIX)/|" $$(grep -lI "^#!$(HERE)/" $(HERE)/bin/*)
	umask 022; mkdir -p $(HERE)/share/doc/gred/docs $(HERE)/share/doc/gred/examples \
	    $(HERE)/share/doc/gred/monitoring
	install -m 644 README.md CHANGELOG.md LICENSE $(HERE)/share/doc/gred/
	install -m 644 docs/*.md docs/*.json $(HERE)/share/doc/gred/docs/
	install -m 644 conf/gred.conf conf/examples/*.conf $(HERE)/share/doc/gred/examples/
	install -m 644 conf/monitoring/* $(HERE)/share/doc/gred/monitoring/
	umask 022; mkdir -p $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8 \
	    $(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(FISHDIR)
	install -m 644 man/gred.8 $(DESTDIR)$(MANDIR)/man8/
	install -m 644 man/gred.conf.5 $(DESTDIR)$(MANDIR)/man5/
	install -m 644 man/gred-metrics.7 $(DESTDIR)$(MANDIR)/man7/
	install -m 644 completion/bash/gred $(DESTDIR)$(BASHDIR)/
	install -m 644 completion/zsh/_gred $(DESTDIR)$(ZSHDIR)/
	install -m 644 completion/fish/gred.fish $(DESTDIR)$(FISHDIR)/
	umask 022; mkdir -p $(DESTDIR)$(SBINDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERS) \
	    $(DESTDIR)/etc/gred/gred.conf.d
	ln -sf $(PREFIX)/bin/gred $(DESTDIR)$(SBINDIR)/gred
	sed "s|/opt/gred/|$(PREFIX)/|" systemd/gred.service >$(DESTDIR)$(UNITDIR)/gred.service
	chmod 644 $(DESTDIR)$(UNITDIR)/gred.service
	install -m 644 systemd/gred.sysusers.conf $(DESTDIR)$(SYSUSERS)/gred.conf
	test -n "$(DESTDIR)" || systemd-sysusers $(SYSUSERS)/gred.conf
	test -e $(DESTDIR)/etc/gred/gred.conf || \
	    install -m 640 conf/gred.conf $(DESTDIR)/etc/gred/gred.conf
	test -n "$(DESTDIR)" || chgrp gred /etc/gred/gred.conf
	$(IF_SYSTEMD) systemctl daemon-reload
	@echo "Next: write /etc/gred/gred.conf; gred check; systemctl enable --now gred"

# Leaves the configuration, and the user it belongs to.
uninstall:
	$(IF_SYSTEMD) systemctl stop gred
	test -n "$(DESTDIR)" || systemctl disable --quiet gred
	rm -f $(DESTDIR)$(SBINDIR)/gred $(DESTDIR)$(UNITDIR)/gred.service $(DESTDIR)$(SYSUSERS)/gred.conf
	rm -f $(DESTDIR)$(MANDIR)/man8/gred.8 $(DESTDIR)$(MANDIR)/man5/gred.conf.5 \
	    $(DESTDIR)$(MANDIR)/man7/gred-metrics.7 \
	    $(DESTDIR)$(BASHDIR)/gred $(DESTDIR)$(ZSHDIR)/_gred $(DESTDIR)$(FISHDIR)/gred.fish
	test ! -e $(HERE)/pyvenv.cfg || rm -rf $(HERE)
	$(IF_SYSTEMD) systemctl daemon-reload

clean:
	rm -rf $(VENV) build dist *.egg-info gred/dataplane/*.so
