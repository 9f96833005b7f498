# pg_rag: two commands are enough, `make demo` and `make test`. `make help` lists the rest.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

.PHONY: help setup models build install uninstall demo demo-stop test test-unit test-pgrx test-regress test-isolation \
	test-cluster test-clients test-demo lint format bench bench-index clean

help:
	@echo 'make demo          the PostgreSQL manual in a private database, four questions answered from it, a picture'
	@echo 'make demo-stop     stop and remove that database'
	@echo 'make test          everything: install what is missing, build, all tests'
	@echo
	@echo 'make setup         install what is missing to build (packages, cargo-pgrx)'
	@echo 'make models        fetch the two default models'
	@echo 'make build         build the extension and the model server (development profile)'
	@echo 'make install       release build into the PostgreSQL of PG_CONFIG'
	@echo 'make uninstall     remove it from there'
	@echo
	@echo 'make test-unit     tests of the inner crates, without PostgreSQL'
	@echo 'make test-pgrx     tests inside a backend'
	@echo 'make test-regress  golden SQL'
	@echo 'make test-isolation interleavings of several sessions'
	@echo 'make test-clients  Python clients of pgvector: psycopg, asyncpg, SQLAlchemy, Django'
	@echo 'make test-cluster  several sessions, signals, restarts'
	@echo 'make test-demo     the demo on a few pages, twice'
	@echo 'make lint          formatting, clippy, and what may depend on what'
	@echo 'make format        format the code'
	@echo 'make bench         benchmarks: a table, and JSON under target/bench'
	@echo 'make bench-index   the index: build, search, insert, vacuum; beside a peer of PG_RAG_BENCH_PEER'
	@echo 'make clean         remove what was built and the throwaway clusters'
	@echo
	@echo 'PG_CONFIG       pg_config of the PostgreSQL to build for      (default: the newest server installed)'
	@echo 'PG_RAG_MODELS   folder of the default models                  (default: /usr/local/share/pg_rag/models)'
	@echo 'DEMO_PAGES      default (about 150), few, a number, or all    (default: default)'
	@echo 'PG_RAG_BENCH_DATA, PG_RAG_BENCH_PEER   folder of vectors, and DSN of a server to compare with'

setup:
	@scripts/setup.sh build

models:
	@scripts/setup.sh demo
	@scripts/models.sh

build: setup
	@scripts/install.sh --build-only

install: setup
	@scripts/install.sh --profile release
	@scripts/models.sh

uninstall:
	@scripts/install.sh --uninstall

demo:
	@scripts/demo.sh

demo-stop:
	@scripts/cluster.sh destroy

test:
	@scripts/test.sh

test-unit test-pgrx test-regress test-isolation test-clients test-cluster test-demo: test-%:
	@scripts/test.sh setup build $*

lint:
	@scripts/test.sh setup format lint purity

format:
	@cargo fmt --all

bench:
	@scripts/bench.sh

bench-index:
	@scripts/bench-index.sh

clean:
	@for folder in test/pgrx test/cluster test/demo bench/cluster bench/index; do PG_RAG_CLUSTER_DIR=target/$$folder scripts/cluster.sh destroy; done
	@cargo clean
