# Sealstream. "make up" and "make test" need Go 1.26 and make, nothing else. What runs on
# real servers (integration, chaos, bench-real) needs a JDK 17, Maven and Python 3 too.

GO       ?= go
DATA     ?= ./data
FUZZTIME ?= 20s
BENCH    ?= .
BENCHPKG ?= ./...
TOOL     := $(GO) tool -modfile=tools/go.mod

# A binary names its commit, unless git is missing or will not speak about this folder.
STAMP = -buildvcs=$(shell git rev-parse --verify -q HEAD >/dev/null 2>&1 && echo auto || echo false)

# The race detector needs a C compiler with its headers, and a platform that has it.
HASH := \#
RACE = $(shell case "$$($(GO) env GOOS)/$$($(GO) env GOARCH)/$$($(GO) env CGO_ENABLED)" in \
	(linux/amd64/1|linux/arm64/1|darwin/*/1|freebsd/amd64/1) \
		printf '$(HASH)include <stdlib.h>\n$(HASH)include <pthread.h>\n' | $$($(GO) env CC) -fsyntax-only -x c - 2>/dev/null && echo -race;; esac)

.DEFAULT_GOAL := help
.PHONY: help up build test integration lint gen faults faults-short chaos chaos-short bench bench-real bench-go fuzz ledger-vectors vuln clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do printf '  %-16s %s\n' "$$t" "$$d"; done

up: build ## run everything on this machine, data in ./data (DATA=dir, FLAGS=...)
	@exec bin/sealstream up --data $(DATA) $(FLAGS)

build: ## make bin/sealstream (the Dockerfile makes a static one)
	$(GO) build $(STAMP) -o bin/sealstream ./cmd/sealstream

test: ## all tests: unit, property, fuzz seeds, embedded broker, real PostgreSQL
	$(GO) test $(RACE) -timeout 6m $(TESTFLAGS) ./...

integration: ## tests on real Apache Kafka, with foreign clients and a foreign registry
	$(GO) run ./internal/testbed/cmd/peers -- sh -c '\
		$(GO) test -count=1 -timeout 5m $(TESTFLAGS) ./internal/stream ./internal/faults ./producers && \
		$(GO) test -count=1 -timeout 20m -p 1 -tags integration $(TESTFLAGS) ./internal/integration/...'

lint: ## vet, staticcheck, format, generated files and modules current
	$(GO) vet -tags integration ./...
	$(TOOL) staticcheck -tags integration ./...
	@bad=$$(find . -name '*.go' -not -path './data/*' -not -path './.*' -exec "$$($(GO) env GOROOT)/bin/gofmt" -l {} +) && \
		if [ -n "$$bad" ]; then echo "not formatted with gofmt:"; echo "$$bad"; exit 1; fi
	$(GO) -C tools test -count=1 ./...
	$(GO) mod tidy -diff
	$(GO) -C tools mod tidy -diff
	$(GO) mod verify

gen: ## write the generated files anew
	$(GO) generate ./...

faults: ## every fault case in full: kill -9, SIGSTOP, outages, full disk, poison (FLAGS="-run X -seed N")
	$(GO) run ./internal/faults/cmd/faults -long $(FLAGS)

faults-short: ## the fault cases in the short form that CI runs
	$(GO) run ./internal/faults/cmd/faults $(FLAGS)

chaos: ## real Kafka, the network and PostgreSQL broken, 300 kills and more; writes docs/reliability.md (FLAGS="-run X -seed N")
	$(GO) run ./internal/faults/cmd/faults -real -long -report docs/reliability.md $(FLAGS)

chaos-short: ## the same in the short form that CI runs, writing nothing
	$(GO) run ./internal/faults/cmd/faults -real $(FLAGS)

bench: ## measure speed, cost and memory, print a table (FLAGS="-run whole -events 300000")
	@$(GO) run ./internal/bench/cmd/bench $(FLAGS)

bench-real: ## the same on real Kafka (FLAGS="-run seal", -memory 10m)
	@$(GO) run ./internal/bench/cmd/benchreal $(FLAGS)

bench-go: ## Go benchmarks, with machine and commit (BENCH=pattern BENCHPKG=./ledger OUT=file)
	@{ echo "machine: $$(uname -sm), $$(getconf _NPROCESSORS_ONLN) x $$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo 2>/dev/null | sort -u | head -1)"; \
	echo "commit:  $$(git describe --always --dirty 2>/dev/null || echo unknown), $$($(GO) version)"; \
	echo "command: $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(BENCHPKG)"; \
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(BENCHPKG); } $(if $(OUT),> $(OUT) && cat $(OUT))

fuzz: ## fuzz every target for a short time (FUZZTIME=20s)
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
		for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$dir/*_test.go); do \
			echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$dir || exit 1; done; done

ledger-vectors: ## check the ledger's test vectors with the second implementation (Python 3)
	python3 ledger/testdata/check.py

vuln: ## known vulnerabilities in what we call (needs the internet)
	$(TOOL) govulncheck ./...

clean: ## remove what was built; never the data
	rm -rf bin .cache
