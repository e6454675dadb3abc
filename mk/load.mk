# Load and abuse of the service: tests/load/load.py with its client in C, which is no part of `make
# test`: it takes minutes and wants a quiet machine.
STORM := $(OUT)/storm

.PHONY: load
## make load     saturation, overload, aborts and stops of the service; CASES="compare overload" chooses
load: all $(STORM)
	python3 tests/load/load.py $(PROGRAM) $(CASES)

.PHONY: hostile
## make hostile  the same legitimate load without and with attackers, in turns; HOSTILE_SECONDS (30) each, HOSTILE_ROUNDS (5);
##               HOSTILE_PROGRAM=build/release/tests/http/test_http: jobs that sleep, for a machine with other work
HOSTILE_PROGRAM ?= $(PROGRAM)
HOSTILE_SECONDS ?= 30
HOSTILE_ROUNDS  ?= 5
hostile: all $(OUT)/tests/http/test_http $(STORM)
	python3 tests/load/hostile.py $(HOSTILE_PROGRAM) $(HOSTILE_SECONDS) $(HOSTILE_ROUNDS)

.PHONY: paired
## make paired   throughput with Redis beside memory at equal workers, in turns; PAIRED_SECONDS (10), PAIRED_ROUNDS (7)
PAIRED_SECONDS ?= 10
PAIRED_ROUNDS  ?= 7
paired: $(OUT)/tests/http/test_http
	python3 tests/load/paired.py $(OUT)/tests/http/test_http $(PAIRED_SECONDS) $(PAIRED_ROUNDS)

.PHONY: kills
## make kills    kills the service with SQLite under load, KILLS (1000) times; KILLS_PROGRAM=build/diffscm:
##               with the engine and models/mnist instead of the tests' stand-in
KILLS ?= 1000
kills: $(OUT)/tests/http/test_http $(KILLS_PROGRAM)
	KILLS=$(KILLS) KILLS_PROGRAM=$(KILLS_PROGRAM) $(OUT)/tests/http/test_http soak_kills -v

.PHONY: chaos
## make chaos    kills services, workers and Redis under load, CHAOS_KILLS (200) times, and one of them every
##               10 s behind nginx for CHAOS_SECONDS (600)
CHAOS_KILLS   ?= 200
CHAOS_SECONDS ?= 600
chaos: $(OUT)/tests/http/test_http
	CHAOS_KILLS=$(CHAOS_KILLS) CHAOS_SECONDS=$(CHAOS_SECONDS) $(OUT)/tests/http/test_http soak_shared -v

$(STORM): tests/load/storm.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $< -o $@
