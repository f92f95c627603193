# One place for what people and the continuous integration run; both say the same words.

CARGO  ?= cargo
CONFIG ?= config/viaduct.yml
# Seconds each fuzz target runs.
FUZZ_SECONDS ?= 60

.PHONY: run build test test-rust test-clients check bench bench-phones fuzz clean tools

# Builds the release binary and starts it.
run: build
	target/release/viaduct --config $(CONFIG) $(ARGS)

build: tools
	$(CARGO) build --release --locked
	ln -sf viaduct target/release/mediasoup-worker

# Everything: format and lints, units and integration in virtual time, then real clients against the release binary.
test: check test-rust test-clients

test-rust: tools
	$(CARGO) test --locked

test-clients: build
	tests/clients/setup.sh
	cd tests/clients && ./run.sh $(if $(ONLY),$(ONLY).test.mjs)

# What a change must pass before it is looked at.
check: tools
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) doc --locked --no-deps --quiet

# What a packet costs: one stream to 1, 100 and 500 viewers. BENCH takes more flags, such as --output FILE.
bench: build
	target/release/viaduct bench $(BENCH)
	$(MAKE) --no-print-directory bench-phones

# What telephones cost: legs in mixed rooms, calls set up, by us and by SIPp, and how late voices come out.
bench-phones: build
	target/release/viaduct bench --legs 100,500,1000
	target/release/viaduct bench --legs 100,250 --codec opus
	target/release/viaduct bench --calls 6000 --cps 200
	benches/sipp.sh
	target/release/viaduct bench --ear 5 --seconds 30

fuzz:
	fuzz/run.sh $(FUZZ_SECONDS)

clean:
	$(CARGO) clean
	rm -rf .cache tests/clients/node_modules

# The C libraries inside (AWS-LC, libopus, OpenH264) need a C and C++ compiler, cmake and nasm.
tools:
	@scripts/tools.sh
