# Failing allocations: tests/alloc preloads a library that lets malloc fail. AddressSanitizer brings a malloc of
# its own, so this is for the release build. tests/alloc/nth.c does the same within a process to every decoder
# and parser that has a fuzz target; the service has threads, and its routes are with run.py.
FAILING  := $(OUT)/failing.so
NTH      := $(patsubst tests/fuzz/fuzz_%.c,$(OUT)/tests/alloc/nth_%,\
              $(filter-out tests/fuzz/fuzz_handler.c tests/fuzz/fuzz_headers.c,$(wildcard tests/fuzz/fuzz_*.c)))
NTH_RUN  = @for program in $(NTH); do name=$${program\#\#*/nth_}; \
             $$program $(1) $$(find tests/fuzz/seeds/fuzz_$$name -type f) || exit 1; done
FAILING_RUN = python3 tests/alloc/run.py $(PROGRAM) $(FAILING) $(OUT)/tests/http/test_http

.PHONY: alloc soak
## make alloc    a sample of failing allocations in decoders, routes, commands and under load, two minutes
alloc: all $(OUT)/tests/http/test_http $(FAILING) $(NTH)
	$(call NTH_RUN,50)
	$(FAILING_RUN) --seconds 90

## make soak     every failing allocation of every command, ten minutes of 1 % under load, kills, chaos, fuzzing; hours
soak: all $(OUT)/tests/http/test_http $(FAILING) $(NTH)
	$(call NTH_RUN,1)
	$(FAILING_RUN) --commands --whole --seconds 1000000
	$(FAILING_RUN) --routes --whole --seconds 1000000
	$(FAILING_RUN) --service --seconds 2000
	@$(SUB) kills
	@$(SUB) hostile
	@$(SUB) chaos
	@$(SUB) fuzz FUZZ_SECONDS=600

.SECONDEXPANSION:
$(OUT)/tests/alloc/nth_%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/tests/alloc/nth.o $$(LAYERS)
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LAYERS) $(LIBS)

$(FAILING): tests/alloc/failing.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -O1 -g $(WARN) -shared -fPIC $< -o $@
