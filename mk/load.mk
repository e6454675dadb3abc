# Load and abuse of the service: tests/load/load.py with its client in C, which is no part of `make
# test`: it takes minutes and wants a quiet machine.
STORM := $(OUT)/storm

.PHONY: load
## make load     saturation, overload, aborts and stops of the service; CASES="compare overload" chooses
load: all $(STORM)
	python3 tests/load/load.py $(PROGRAM) $(CASES)

$(STORM): tests/load/storm.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< -o $@
