# Fuzzing: tests/fuzz/fuzz_*.c define LLVMFuzzerTestOneInput. They are linked with a small mutating driver of
# our own under ASan and UBSan; FUZZ_CC=clang compiles everything for libFuzzer instead, in build/fuzz.
# tests/fuzz/seeds is the committed corpus; what libFuzzer adds to it stays in build/fuzz/corpus.

FUZZ_SECONDS ?= 20
FUZZ_CC      ?=
ifneq ($(ONLY),)
FUZZ_SRC     := $(shell printf '%s\n' $(FUZZ_SRC) | grep -E -e '$(ONLY)')
endif
FUZZERS      := $(patsubst %.c,$(OUT)/%,$(FUZZ_SRC))
FUZZ_MAIN    := $(if $(filter fuzz,$(BUILD)),-fsanitize=fuzzer,$(OUT)/tests/fuzz/driver.o)

.PHONY: fuzz fuzzers fuzz-minimise fuzz-coverage
## make fuzz     each fuzz target for FUZZ_SECONDS (20) under ASan and UBSan; ONLY=regex; FUZZ_CC=clang: libFuzzer
fuzz:
ifeq ($(FUZZ_CC),)
	@$(SUB) BUILD=asan fuzzers
	@printf '%s\n' $(basename $(notdir $(FUZZ_SRC))) | xargs -P $(shell nproc) -I NAME sh -c \
	    'build/asan/tests/fuzz/NAME $(FUZZ_SECONDS) build/asan/NAME.input \
	        $$(find tests/fuzz/seeds/NAME -type f 2>/dev/null) || { \
	        echo "NAME: failed; its input is build/asan/NAME.input"; exit 1; }'
else
	@$(SUB) BUILD=fuzz CC='$(FUZZ_CC)' fuzzers
	@for source in $(FUZZ_SRC); do \
	    name=$$(basename $$source .c); \
	    mkdir -p build/fuzz/corpus/$$name tests/fuzz/seeds/$$name; \
	    build/fuzz/tests/fuzz/$$name -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -timeout=30 \
	        -artifact_prefix=build/fuzz/$$name- build/fuzz/corpus/$$name tests/fuzz/seeds/$$name \
	        >build/fuzz/$$name.log 2>&1 || { tail -n 40 build/fuzz/$$name.log; \
	        echo "$$name: failed; its input is build/fuzz/$$name-*"; exit 1; }; \
	    printf '%-28s %s\n' $$name "$$(grep -a Done build/fuzz/$$name.log)"; \
	done
endif

## make fuzz-minimise FUZZ_CC=clang  adds to tests/fuzz/seeds what reaches more of the code, fewest files
fuzz-minimise:
	@for source in $(FUZZ_SRC); do \
	    name=$$(basename $$source .c); \
	    build/fuzz/tests/fuzz/$$name -merge=1 -max_len=4096 tests/fuzz/seeds/$$name build/fuzz/corpus/$$name \
	        >build/fuzz/$$name.merge 2>&1 || exit 1; \
	done

## make fuzz-coverage  share of their files' lines that the fuzz targets reach with the committed seeds; fails below 90 %
fuzz-coverage: all
	@CC='$(CC)' LIBS='$(LAYERS) $(LIBS)' python3 tests/fuzz/coverage.py build/coverage '$(ONLY)'

fuzzers: $(FUZZERS)
.SECONDEXPANSION:
$(FUZZERS): $(OUT)/%: $(OUT)/%.o $(filter %.o,$(FUZZ_MAIN)) $$(LAYERS)
	$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(filter -%,$(FUZZ_MAIN)) $(LAYERS) $(LIBS)
