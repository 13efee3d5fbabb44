# onggi: `make run` shows the main job, `make test` runs every test. Both install what is missing first.
SHELL := /bin/bash
# Asked when it is used: `setup` may have brought the better one.
TARGET = $(shell .ci/target)
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
ONGGI = $(abspath $(TARGET_DIR)/$(TARGET)/release/onggi)
MANUALS := $(abspath $(TARGET_DIR)/manuals)
ENGINES ?= containerd:cgroupfs containerd:systemd cri:cgroupfs cri:systemd cri-o:cgroupfs cri-o:systemd docker:systemd docker:cgroupfs \
    podman:systemd podman:cgroupfs rootless:systemd rootless:cgroupfs buildah
PREFIX ?= /usr/local
DESTDIR ?=
ZSH_COMPLETIONS ?= share/zsh/site-functions
# Where rustup puts cargo: found even before a new login.
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
export ONGGI_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

.PHONY: help run test lint bench shell faults peers validation engines fuzz install install-files shim install-shim manuals deb setup build clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: setup build ## Take a real bundle through create, start, state, exec, kill, delete; show each step
	ONGGI=$(ONGGI) spec-tests/demo.sh

test: setup ## Every test: format, lints, unit, integration, conformance
	.ci/test

lint: setup ## Format, lints, scripts and spelling only
	cargo fmt --all --check
	.ci/texts
	cargo clippy --workspace --all-targets -- -D warnings

bench: setup build ## Compare with the floor, runc and crun, interleaved in one run
	cargo run --release --quiet -p benches --bin bench

shell: setup build ## A shell in a virtual machine of the tests, with the runtime in /payload (MACHINE=fast, systemd or engines)
	cargo run --quiet -p spec-tests -- --shell $(or $(MACHINE),systemd) --runtime $(ONGGI)

faults: setup build ## Every call of every process of the runtime fails once in each way, and is once where it is killed
	cargo run --quiet -p spec-tests -- --runtime $(ONGGI) --faults whole faults/

peers: setup ## Run the conformance suite on runc and crun, and compare with what is known of them
	cargo run --quiet -p spec-tests -- --runtime "$$(command -v runc)"
	cargo run --quiet -p spec-tests -- --runtime "$$(command -v crun)"

validation: setup build ## The validation programs of the OCI's runtime-tools, in a virtual machine
	cargo run --quiet -p spec-tests -- --validation --runtime $(ONGGI)

engines: setup build ## The real engines in a virtual machine with onggi at the bottom (ENGINES="docker:cgroupfs podman ...")
	spec-tests/engines/matrix $(ONGGI) $(ENGINES)

fuzz: setup ## Fuzz every target for a minute, with the address sanitizer if nightly and cargo-fuzz are there (FUZZ="600 dbus unit")
	fuzz/run $(or $(FUZZ),60)

install: setup build install-files ## Install binary, manual pages and completions below $(DESTDIR)$(PREFIX)

# For packages: what is built is there already.
install-files: manuals
	install -D -m 0755 $(ONGGI) $(DESTDIR)$(PREFIX)/bin/onggi
	install -d $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 0644 $(MANUALS)/man8/*.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -D -m 0644 $(MANUALS)/completions/onggi.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/onggi
	install -D -m 0644 $(MANUALS)/completions/_onggi $(DESTDIR)$(PREFIX)/$(ZSH_COMPLETIONS)/_onggi
	install -D -m 0644 $(MANUALS)/completions/onggi.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/onggi.fish

manuals: ## Write manual pages and shell completions below target/manuals
	cargo run --quiet --package packaging -- $(MANUALS)

deb: setup build ## Make a Debian package in target/
	packaging/deb $(TARGET_DIR)

setup:
	@.ci/install

build: ## Build the release binary
	cargo build --release -p runtime-cli --target $(TARGET)

shim: setup ## Build containerd-shim-onggi-v1, containerd's shim with the library inside (docs/engines/containerd.md)
	cargo build --release -p runtime-shim --target $(TARGET)

install-shim: shim ## Install it below $(DESTDIR)$(PREFIX)
	install -D -m 0755 $(dir $(ONGGI))containerd-shim-onggi-v1 $(DESTDIR)$(PREFIX)/bin/containerd-shim-onggi-v1

clean: ## Remove what was built
	cargo clean
