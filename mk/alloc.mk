# Failing allocations: tests/alloc preloads a library that lets malloc fail. AddressSanitizer brings a malloc of
# its own, so this is for the release build.
FAILING := $(OUT)/failing.so
FAILING_RUN = python3 tests/alloc/run.py $(PROGRAM) $(FAILING) $(OUT)/tests/http/test_http

.PHONY: alloc soak
## make alloc    a sample of failing allocations in commands and under load, two minutes
alloc: all $(OUT)/tests/http/test_http $(FAILING)
	$(FAILING_RUN) --seconds 100

## make soak     every failing allocation of every command, ten minutes of 1 % under load, kills, chaos, fuzzing; hours
soak: all $(OUT)/tests/http/test_http $(FAILING)
	$(FAILING_RUN) --commands --whole --seconds 1000000
	$(FAILING_RUN) --service --seconds 2000
	@$(SUB) kills
	@$(SUB) chaos
	@$(SUB) fuzz FUZZ_SECONDS=600

$(FAILING): tests/alloc/failing.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O1 -g $(WARN) -shared -fPIC $< -o $@
