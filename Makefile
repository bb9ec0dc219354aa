# `make up` needs Rust, a C compiler and make. Everything else here says what it needs.

.PHONY: up down test lint bench soak demo-leak wpt cache-tests engine dist guests engine-less help

help:
	@echo "make up            build Squall, run a node, deploy examples/hello"
	@echo "make down          stop that node"
	@echo "make test          every test; those that lack npm or Python are named"
	@echo "make lint          format, clippy, licences and advisories"
	@echo "make bench         measure beside wasmtime serve, workerd and nginx, write docs/benchmarks.md"
	@echo "make wpt           the Web Platform Tests, from a copy of them; writes docs/conformance.md"
	@echo "make cache-tests   the public tests of HTTP caches; writes docs/conformance.md"
	@echo "make soak          50 rounds of kill -9, and 100 for the cache"
	@echo "make demo-leak     a million requests search for each other's secrets"
	@echo "make dist          release archives in target/dist"
	@echo "make engine-less   check the crates that need no WebAssembly engine, quickly"
	@echo "make guests        rebuild the components that the tests use"
	@echo "make engine        rebuild the JavaScript engine and its web layer, which are committed"

up:
	@scripts/up

down:
	@scripts/down

test:
	@scripts/test

lint:
	@scripts/lint

bench:
	@benches/run

soak:
	@scripts/need-tools
	SQUALL_CRASH_ROUNDS=50 cargo test --workspace --test e2e crash -- --nocapture --test-threads 1
	SQUALL_CACHE_CRASH_ROUNDS=100 SQUALL_CACHE_RACES=10000 cargo test --workspace --lib -- store::tests::crash store::tests::races --nocapture

demo-leak:
	@benches/demo-leak

wpt:
	@scripts/wpt --update

cache-tests:
	@scripts/test-cache --update

engine:
	@scripts/engine

dist:
	@scripts/dist

guests:
	@scripts/build-guests

engine-less:
	@scripts/engine-less

.DEFAULT_GOAL := help
