# arm64: the kernels and the networks above them, cross-compiled with Debian's compiler and run
# under QEMU's user emulation. Only what needs no other library is linked, and statically: matrix
# products come from plain loops (tests/arm64/gemm_plain.c), because Debian's OpenBLAS for arm64
# cannot be installed beside the one of this machine everywhere. docs/performance.md tells how the
# whole program is cross-built.

ARM64_CC  ?= aarch64-linux-gnu-gcc
ARM64_RUN ?= qemu-aarch64-static
CFLAGS_arm64 := -O2 -g -static

ARM64_PARTS := base kernels nn models diffusion
# Not: what calls OpenBLAS, and what reads JSON.
ARM64_OUT   := core/kernels/gemm.c core/kernels/linalg.c core/kernels/openblas.c \
                 core/models/config.c core/models/infer.c core/models/presets.c
ARM64_SRC   := $(filter-out $(ARM64_OUT),$(wildcard $(ARM64_PARTS:%=core/%/*.c))) tests/arm64/gemm_plain.c
ARM64_TESTS := $(patsubst %.c,$(OUT)/cross/%,$(filter-out tests/core/models/test_infer.c,\
                 $(wildcard $(ARM64_PARTS:%=tests/core/%/test_*.c))))
ARM64_LIB   := $(OUT)/libarm64.a

.PHONY: arm64-test arm64-programs
## make arm64-test  kernels and networks cross-compiled for arm64, their tests under QEMU
arm64-test:
	@tools/setup.sh arm64
	@$(SUB) BUILD=arm64 CC=$(ARM64_CC) arm64-programs
	@TEST_RUN=$(ARM64_RUN) tests/run.sh --unit build/arm64/cross '$(ONLY)'

ifeq ($(BUILD),arm64)
arm64-programs: $(ARM64_TESTS)
$(ARM64_LIB): $(call obj,$(ARM64_SRC)) $(SIMD_OBJ)
	$(archive)
$(ARM64_TESTS): $(OUT)/cross/%: $(OUT)/%.o $(ARM64_LIB)
	@mkdir -p $(@D)
	$(CC) $(ALL_LDFLAGS) -o $@ $< $(ARM64_LIB) -lpthread -lm
endif
