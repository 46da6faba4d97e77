SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test test-revocation check bench generate fmt needs

export CGO_ENABLED ?= 0

BIN := .build/cicosts

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## build and serve on SQLite (cicosts.db) at http://localhost:8080; needs Go and nothing else
	$(BIN) serve

build: ## build the program: .build/cicosts, one static binary
	go build -trimpath -o $(BIN) ./cmd/cicosts

test: needs ## run every test on both databases and in the browser; as root on Debian, install what that needs
	CI=true go test ./...

test-revocation: needs ## drive replicas for minutes while keys are revoked and things go wrong; make test does it for seconds
	CI=true go test ./cmd/cicosts/revocation -count 1 -timeout 60m -v -long

check: needs ## check formatting, generated files, go.mod, vet, lint and dead code, and test for data races
	@unformatted=$$(go tool gofumpt -l .); test -z "$$unformatted" || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }
	go tool templ fmt -fail .
	go tool templ generate -check
	go mod tidy -diff
	go vet ./...
	go tool staticcheck ./...
	@dead=$$(go tool deadcode -test ./...); test -z "$$dead" || { echo "dead code:"; echo "$$dead"; exit 1; }
	CI=true CGO_ENABLED=1 go test -race -short ./...  # short: without the browser, and without replicas to drive

bench: ## run the benchmarks
	go test -run '^$$' -bench . -benchmem -timeout 30m ./...

generate: ## generate Go from the templ files
	go tool templ generate

fmt: ## format Go and templ files
	go tool templ fmt .
	go tool gofumpt -w .

needs:
	@.ci/needs
