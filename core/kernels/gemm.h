/* Matrix products through OpenBLAS.
 *
 * Row-major, float. Each call runs on one thread: the program's own threads split the work.
 */
#ifndef DSCM_CORE_KERNELS_GEMM_H
#define DSCM_CORE_KERNELS_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

/* C = alpha * op(A) op(B) + beta * C.   op(A) is (M,K), op(B) is (K,N), C is (M,N); lda, ldb, ldc
 * are the row strides of A, B and C as they are stored (before a transposition). */
void dscm_gemm(bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
               const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
               size_t ldc);

/* Must have succeeded before dscm_gemm is used; dscm_bundle_load calls it. Loads OpenBLAS and compares a
 * few products with plain loops. DSCM_E_SYSTEM where OpenBLAS is not installed, or where it is older
 * than the processor and returns wrong results: the message names library version, core type and the
 * variable that overrides it. Takes some milliseconds; any thread may call it. */
dscm_code dscm_gemm_check(dscm_error *err) DSCM_MUST_CHECK;

/* Library version and core type, static storage. */
const char *dscm_gemm_library(void);

#endif
