# diffscm: build, test and run. `make help` lists the targets.
# Objects live in build/$(BUILD)/; BUILD is release, asan or tsan. The program: build/diffscm.

BUILD   ?= release
CC      ?= gcc
OUT     := build/$(BUILD)
comma   := ,
PREFIX  ?= /usr/local
VERSION := $(shell sed -n 's/^\#define DSCM_VERSION  *"\(.*\)"/\1/p' core/base/version.h)

# snprintf cuts messages on purpose, and what the compiler proves about it varies with -O.
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Wpointer-arith -Wno-format-truncation
# Position-independent objects serve program and shared library alike. 3 checks more than 2 where compiler
# and C library know it, and is a warning elsewhere.
FORTIFY := $(shell echo '\#include <features.h>' | $(CC) -O2 -D_FORTIFY_SOURCE=3 -Werror -E -x c - >/dev/null 2>&1 && echo 3 || echo 2)
CFLAGS_release := -O2 -g -fPIC -fno-semantic-interposition -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=$(FORTIFY)
HARDEN  := -Wl,-z,relro,-z,now,-z,noexecstack
LDFLAGS_release := -pie $(HARDEN)
# Line tables and no more: the debug information of the whole program is linked into every test.
CFLAGS_asan    := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_fuzz    := $(CFLAGS_asan) -fsanitize=fuzzer-no-link
CFLAGS_tsan    := -O1 -g1 -fsanitize=thread
EXTRA   ?= $(if $(WERROR),-Werror)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -I. $(WARN) $(CFLAGS_$(BUILD)) $(EXTRA) $(CFLAGS)
ALL_LDFLAGS = $(CFLAGS_$(BUILD)) $(LDFLAGS_$(BUILD)) $(LDFLAGS)
# OpenBLAS is loaded at run time (core/kernels/openblas.c).
CORE_LIBS := -larchive -lpng -ljpeg -ljansson -lcrypto -lz -ldl -lpthread -lm
LIBS    := -lmicrohttpd -lsqlite3 -lhiredis $(CORE_LIBS)

# ---- sources: one archive per layer, found by folder --------------------------------------------
CORE_SRC   := $(wildcard core/*.c core/*/*.c)
API_SRC    := $(wildcard api/*.c)
SERVER_SRC := $(wildcard server/*.c)
CLI_SRC    := $(wildcard cli/*.c)
SIMD_SRC   := $(wildcard core/kernels/simd/*.c)
TEST_SRC   := $(wildcard tests/*/test_*.c tests/*/*/test_*.c)
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)

# The hot kernels are compiled once per instruction set.
MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
ifneq ($(findstring x86_64,$(MACHINE)),)
ISAS := base avx2 avx512
else
ISAS := base
endif
ISA_FLAGS_base   :=
ISA_FLAGS_avx2   := -mavx2 -mfma -mf16c
ISA_FLAGS_avx512 := -mavx512f -mavx512vl -mavx512dq -mavx512bw -mavx2 -mfma -mf16c -mprefer-vector-width=512
SIMD_CFLAGS := -ffp-contract=fast -fno-math-errno -fno-trapping-math $(if $(filter release arm64,$(BUILD)),-O3)
# AddressSanitizer sees where each access lands; looking at each pointer too makes kernels four times slower.
SIMD_CFLAGS += $(if $(filter asan,$(BUILD)),-fno-sanitize=alignment$(comma)null$(comma)object-size$(comma)pointer-overflow)
# -O2 makes instrumented tiles three times faster; of the Winograd transforms, written out, it takes minutes to compile.
SIMD_LEVEL = $(if $(filter asan,$(BUILD)),$(if $(findstring winograd,$<),,-O2))
# No fuzz target reaches a kernel with foreign numbers, and clang takes minutes to instrument one.
SIMD_CFLAGS += $(if $(filter fuzz,$(BUILD)),-fno-sanitize=all)

obj = $(patsubst %.c,$(OUT)/%.o,$(1))
SIMD_OBJ := $(foreach isa,$(ISAS),$(patsubst %.c,$(OUT)/%.$(isa).o,$(SIMD_SRC)))
CORE_LIB := $(OUT)/libdiffscm.a
API_LIB  := $(OUT)/libdiffscm_api.a
SERVER_LIB := $(OUT)/libdiffscm_server.a
PROGRAM  := $(OUT)/diffscm
TESTS    := $(patsubst %.c,$(OUT)/%,$(TEST_SRC))
ifneq ($(ONLY),)
TESTS    := $(shell printf '%s\n' $(TESTS) | grep -E -e '$(ONLY)')
endif

.PHONY: all tests clean help FORCE
## make          build the program as build/diffscm; BUILD=asan|tsan: instrumented, in build/$(BUILD)
all: $(PROGRAM) $(if $(filter release,$(BUILD)),build/diffscm)

build/diffscm: build/release/diffscm
	ln -sf release/diffscm $@

include $(wildcard mk/*.mk)

# ---- rules ----------------------------------------------------------------------------------------
# Objects are made anew when compiler or flags change; -Werror changes no object.
STAMP := $(OUT)/flags
STAMPED = $(CC) $(subst ','\'',$(filter-out -Werror,$(ALL_CFLAGS)))
$(STAMP): FORCE
	@mkdir -p $(@D)
	@echo '$(STAMPED)' | cmp -s - $@ || echo '$(STAMPED)' > $@

$(OUT)/%.o: %.c $(STAMP)
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

define simd_rule
$(OUT)/core/kernels/simd/%.$(1).o: core/kernels/simd/%.c $(STAMP)
	@mkdir -p $$(@D)
	$(CC) $(ALL_CFLAGS) $(SIMD_CFLAGS) $$(SIMD_LEVEL) $(ISA_FLAGS_$(1)) -DDSCM_ISA_SUFFIX=$(1) -MMD -MP -c $$< -o $$@
endef
$(foreach isa,$(ISAS),$(eval $(call simd_rule,$(isa))))

define archive
@rm -f $@
ar rcs $@ $(filter %.o,$^)
endef
$(CORE_LIB): $(call obj,$(CORE_SRC)) $(SIMD_OBJ)
	$(archive)
$(API_LIB): $(call obj,$(API_SRC))
	$(archive)
$(SERVER_LIB): $(call obj,$(SERVER_SRC))
	$(archive)

LAYERS := $(SERVER_LIB) $(API_LIB) $(CORE_LIB)
$(PROGRAM): $(call obj,$(CLI_SRC)) $(LAYERS)
	$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(LAYERS) $(LIBS)

# A test program links every layer; what it does not use is left out of an archive anyway.
tests: $(TESTS)
$(TESTS): $(OUT)/%: $(OUT)/%.o $(LAYERS)
	$(CC) $(ALL_LDFLAGS) -o $@ $< $(LAYERS) $(LIBS)

clean:
	rm -rf build

help:
	@sed -n 's/^## //p' Makefile mk/*.mk

-include $(shell find $(OUT) -name '*.d' 2>/dev/null)
