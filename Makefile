# make demo, make test: everything from nothing. The rest is for who works on gred.
#
# Needs the packages that README.md lists. Without gcc or python3-dev no C extension is built: gred then
# runs its pure-Python twin, and says so.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
NATIVE := $(wildcard gred/dataplane/native/*.[ch])

.PHONY: venv demo test lint format sanitize fuzz bench clean

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

# PYTEST adds arguments, as in: make test PYTEST='tests/wire -k checksum'
test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(NATIVE)

# The extension under AddressSanitizer and UndefinedBehaviorSanitizer, warnings as errors, in a copy of
# the tree so that the ordinary build stays as it is.
SANITIZED := build/sanitized
SANITIZE  := -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
STRICT    := -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wvla -Wconversion -Wno-sign-conversion

sanitize: $(VENV)/.dev
	rm -rf $(SANITIZED)
	mkdir -p $(SANITIZED)
	cp -r gred tests conf pyproject.toml $(SANITIZED)/
	rm -f $(SANITIZED)/gred/dataplane/*.so
	for module in codec io; do \
	    case $$module in codec) sources="codec_module encapsulate decapsulate coalesce flows packet peers peers_module sequence";; \
	        io) sources="io_module tun send scout receive";; esac; \
	    $(CC) $(STRICT) $(SANITIZE) -fPIC -shared -DPy_LIMITED_API=0x030b0000 \
	        $$($(BIN)/python -c 'import sysconfig; print("-I" + sysconfig.get_path("include"))') \
	        $$(printf "gred/dataplane/native/%s.c " $$sources) \
	        -o $(SANITIZED)/gred/dataplane/_$$module.abi3.so || exit 1; \
	done
	cd $(SANITIZED) && ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	    LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	    $(CURDIR)/$(BIN)/python -m pytest -p no:cacheprovider tests/dataplane tests/wire $(PYTEST)

# BENCH adds arguments, as in: make bench BENCH=--quick
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) build dist *.egg-info gred/dataplane/*.so
