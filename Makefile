# SPDX-License-Identifier: MIT
# `make demo` and `make test` set up what they need by themselves (.ci/setup-env). ARGS="..." is passed on to the program.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# What runs side by side: compilers, the C programs, pytest's workers, each with a file of tests at a time.
WORKERS ?= 2
BIN := $(VENV)/bin
C_TESTS = $(MAKE) -s --no-print-directory -j$(WORKERS) -C tests/c JOBS=$(WORKERS)
PYTEST := python -m pytest -n $(WORKERS) --dist loadfile
export PYTHON

# $(READY)test: the environment holds kcpsock, built from the sources as they are now, and the packages of the extra "test".
READY := $(VENV)/.ready-
BUILT_FROM := pyproject.toml setup.py .ci/setup-env $(wildcard cffi_build/*/*.[ch]) cffi_build/build.py tests/support/build_bare.py

# Python itself knows nothing of the sanitizer: its library has to be there first, and libstdc++, whose exceptions greenlet
# throws, before it looks for them. What Python leaves is not our leak.
# Its reports go to files, since pytest keeps the output of a process that dies.
REPORTS := $(CURDIR)/build/sanitizer
ASAN_ENV = LD_PRELOAD=$(shell gcc -print-file-name=libasan.so):$(shell gcc -print-file-name=libstdc++.so.6) \
    PYCRYPTODOME_DISABLE_DEEPBIND=1 ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:log_path=$(REPORTS) \
    UBSAN_OPTIONS=print_stacktrace=1:log_path=$(REPORTS)

# Left out: forks. The sanitizer's allocator has locks of its own, and a child waits for ever for one that another thread, an
# engine's too, held at that moment: gcc's runtime makes none of them anew. One run of some hundred hung.
ASAN_TESTS := tests/socket tests/unit tests/engine/test_bad_input.py --ignore tests/socket/test_fork.py

# The thread sanitizer does not know where newer kernels put memory: no random addresses (setarch -R), and its library not
# before that. A program's reports make its exit status 66.
THREAD_REPORTS := $(CURDIR)/build/thread-sanitizer
TSAN_ENV = LD_PRELOAD=$(shell gcc -print-file-name=libtsan.so):$(shell gcc -print-file-name=libstdc++.so.6) \
    PYCRYPTODOME_DISABLE_DEEPBIND=1 \
    TSAN_OPTIONS=log_path=$(THREAD_REPORTS):print_suppressions=0:suppressions=$(CURDIR)/tests/support/thread_sanitizer.txt
# The C programs that have threads: the others take minutes, and can have no race.
THREADED := $(notdir $(basename $(shell grep -l pthread_create tests/c/test_*.c)))
# An engine beside Python's threads. Left out: what counts threads, since one is the sanitizer's own.
TSAN_TESTS := $(addprefix tests/socket/test_,connect.py engines.py locks.py packets.py send_now.py stream.py) \
    --deselect tests/socket/test_engines.py::test_engines_share_a_listeners_connections

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: no-extension help demo test lint mutate mutate-c bench bench-grow bench-link bench-micro soak sanitize-address sanitize-thread check-plain check-sdist clean

help:
	@echo "make demo              fetch a 20 MB file over KCP through a lossy link"
	@echo "make test              the tests (ARGS=\"-k name\" for some of them)"
	@echo "make lint              ruff, mypy, shellcheck, the layers of the C sources, their warnings by gcc and clang"
	@echo "make mutate            plant small wrong changes in kcpsock/*.py: does a test notice each? ARGS=\"_life _oob\" for some modules"
	@echo "make mutate-c          plant wrong changes in the C sources: does a C test find each? ARGS=\"name\" for some of them"
	@echo "make bench             compare with kcp-go and kernel TCP; results in build/bench-results/"
	@echo "make bench-grow        how rate and cost grow with window, loss and connections; results in build/bench-results/"
	@echo "make bench-link        on emulated links, against kcp-go, QUIC and (as root) kernel TCP; results in build/bench-results/"
	@echo "make bench-micro       packet crypt and FEC alone, against kcp-go; results in build/bench-results/"
	@echo "make soak              the tests that take minutes"
	@echo "make sanitize-address  C and Python tests under the address and undefined-behaviour sanitizers"
	@echo "make sanitize-thread   C and Python tests under the thread sanitizer"
	@echo "make check-plain       the tests without Linux's own calls (UDP batches, GSO, GRO, epoll)"
	@echo "make check-sdist       build the sdist, install it by gcc and by clang, import it"
	@echo "make clean             remove what was built, and $(VENV)"

# An extension that was removed by hand is built again.
$(READY)test $(READY)bench: $(if $(wildcard tests/support/_bare*.so),,no-extension)
$(READY)%: $(BUILT_FROM) $(if $(wildcard kcpsock/_native*.so),,no-extension)
	.ci/setup-env $(VENV) $*
	@touch $@

demo: $(READY)test
	$(BIN)/python examples/demo.py $(ARGS)

test: $(READY)test
	$(C_TESTS) run
	@mkdir -p build
	$(C_TESTS) fuzz FUZZ_RUNS=500 >build/fuzz.log 2>&1 || { tail -c 3000 build/fuzz.log; exit 1; }
	$(BIN)/$(PYTEST) $(ARGS)

mutate: $(READY)test $(READY)mutate
	$(BIN)/python tests/mutation/run_py.py $(ARGS)

mutate-c:
	$(PYTHON) tests/mutation/run_c.py $(ARGS)

soak: $(READY)test
	$(BIN)/python -m pytest -m soak $(ARGS)

bench: $(READY)bench
	$(BIN)/python bench/compare.py $(ARGS)

bench-grow: $(READY)bench
	$(BIN)/python bench/grow.py $(ARGS)

bench-link: $(READY)bench
	$(BIN)/python bench/link.py $(ARGS)

bench-micro: $(READY)bench
	$(BIN)/python bench/micro.py $(ARGS)

# Outside CI a compiler that is not there is left out.
lint: $(READY)lint
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/*
	$(BIN)/python cffi_build/layers.py
	@for cc in gcc clang; do \
	    if command -v $$cc >/dev/null; then \
	        CC=$$cc KCPSOCK_WERROR=1 .ci/in-copy $(VENV) lint-$$cc python cffi_build/layers.py build || exit 1; \
	        echo "$$cc: no warnings in the C sources"; \
	    else \
	        echo "$$cc is not here: its warnings are not looked for"; [ "$$CI" != true ] || exit 1; \
	    fi; \
	done

# The variables stand in the recipes, not at the targets: there they would reach the usual build too.
sanitize-address: $(READY)test
	$(C_TESTS) run SANITIZE=address,undefined
	@mkdir -p build; rm -f $(REPORTS).*
	$(C_TESTS) fuzz SANITIZE=address,undefined >build/fuzz.log 2>&1 || \
	    { tail -c 3000 build/fuzz.log; exit 1; }
	KCPSOCK_SANITIZE=address,undefined RUN_WITH="$(ASAN_ENV)" \
	    .ci/in-copy $(VENV) address $(PYTEST) $(or $(ARGS),-q $(ASAN_TESTS)) || \
	    { cat $(REPORTS).* 2>/dev/null; exit 1; }
	@! cat $(REPORTS).* 2>/dev/null

sanitize-thread: $(READY)test
	$(C_TESTS) run SANITIZE=thread TESTS="$(THREADED)"
	@mkdir -p build; rm -f $(THREAD_REPORTS).*
	KCPSOCK_SANITIZE=thread .ci/in-copy $(VENV) thread \
	    setarch -R env $(TSAN_ENV) python -m pytest $(or $(ARGS),-q $(TSAN_TESTS)) || \
	    { cat $(THREAD_REPORTS).* 2>/dev/null; exit 1; }
	@! cat $(THREAD_REPORTS).* 2>/dev/null

check-plain: $(READY)test
	$(C_TESTS) run CFLAGS="-O2 -DKS_PLAIN" OUT=../../build/tests-c/plain
	KCPSOCK_PLAIN=1 .ci/in-copy $(VENV) plain $(PYTEST) $(ARGS)

check-sdist: $(READY)test
	rm -rf build/sdist
	$(BIN)/python setup.py -q sdist --dist-dir build/sdist
	for cc in gcc clang; do \
	    rm -rf build/sdist/venv && $(PYTHON) -m venv build/sdist/venv && \
	    CC=$$cc build/sdist/venv/bin/python -m pip install -q build/sdist/kcpsock-*.tar.gz && \
	    (cd build/sdist && venv/bin/python -c 'import kcpsock, sys; print(kcpsock._native, "by", sys.argv[1])' $$cc) || exit 1; \
	done

clean:
	rm -rf build dist *.egg-info kcpsock/*.so tests/support/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis $(VENV)
	find . -name __pycache__ -prune -exec rm -rf {} +
