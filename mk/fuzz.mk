# Fuzzing: tests/fuzz/fuzz_*.c define LLVMFuzzerTestOneInput. They are linked with a small mutating
# driver of our own under ASan and UBSan; FUZZ_CC=clang links libFuzzer instead, for long hunts.

FUZZ_SECONDS ?= 20
FUZZ_CC      ?=
FUZZERS      := $(patsubst %.c,$(OUT)/%,$(FUZZ_SRC))
FUZZ_MAIN    := $(if $(FUZZ_CC),,$(OUT)/tests/fuzz/driver.o)

.PHONY: fuzz fuzzers
## make fuzz     each fuzz target for FUZZ_SECONDS (20) under ASan and UBSan
fuzz:
	@$(SUB) BUILD=asan fuzzers
	@for source in $(FUZZ_SRC); do \
	    name=$$(basename $$source .c); \
	    build/asan/tests/fuzz/$$name $(FUZZ_SECONDS) build/asan/$$name.input \
	        $$(find tests/fuzz/seeds/$$name -type f 2>/dev/null) || { \
	        echo "$$name: failed; its input is build/asan/$$name.input"; exit 1; }; \
	done

fuzzers: $(FUZZERS)
.SECONDEXPANSION:
$(FUZZERS): $(OUT)/%: $(OUT)/%.o $(FUZZ_MAIN) $$(LAYERS)
	$(if $(FUZZ_CC),$(FUZZ_CC) -fsanitize=fuzzer,$(CC)) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LAYERS) $(LIBS)
