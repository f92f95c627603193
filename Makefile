# One place for what people and the continuous integration run; both say the same words.

CARGO  ?= cargo
CONFIG ?= config/viaduct.yml
# Seconds each fuzz target runs.
FUZZ_SECONDS ?= 60
# A long run with receivers coming and going: how long, and how many at a time.
SOAK_SECONDS ?= 3600
SOAK_VIEWERS ?= 1000

.PHONY: run build test test-rust test-clients check bench bench-phones bench-compare soak asan fuzz clean tools

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
	target/release/viaduct bench --control
	$(MAKE) --no-print-directory bench-phones

# What telephones cost: legs in mixed rooms, calls set up, by us and by SIPp, and how late voices come out.
bench-phones: build
	target/release/viaduct bench --legs 100,500,1000
	target/release/viaduct bench --legs 100,250 --codec opus
	target/release/viaduct bench --calls 6000 --cps 200
	benches/sipp.sh
	target/release/viaduct bench --ear 5 --seconds 30

# The same beside Janus and mediasoup, which it installs (Debian, as root); table and plot go to benches/results.
# COMPARE takes more flags, such as --receivers 1,100 --seconds 5.
bench-compare: build
	benches/compare/setup.sh
	node benches/compare/run.mjs $(COMPARE)

soak: build
	target/release/viaduct bench --soak $(SOAK_SECONDS) --viewers $(SOAK_VIEWERS) $(BENCH)

# The tests of all that is unsafe (the kernel's calls, SRTP over AWS-LC), and of what forwards through it, with
# AddressSanitizer; needs a nightly toolchain. Miri cannot run them: what is unsafe here is all calls into C.
asan: tools
	RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --locked --lib --target $(shell rustc -vV | sed -n 's/host: //p') \
		--target-dir target/asan -- core::io core::rtp bench

fuzz:
	fuzz/run.sh $(FUZZ_SECONDS)

clean:
	$(CARGO) clean
	rm -rf .cache tests/clients/node_modules

# The C libraries inside (AWS-LC, libopus, OpenH264) need a C and C++ compiler, cmake and nasm.
tools:
	@scripts/tools.sh
