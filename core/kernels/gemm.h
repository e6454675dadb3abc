/* Matrix products through BLAS; the only file pair that knows <cblas.h>.
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

/* Call once before any thread uses dscm_gemm: sets one BLAS thread per caller and compares a few
 * products with plain loops. A library older than the processor may return wrong results; then this
 * is DSCM_E_SYSTEM and the message names library version, core type and the variable that overrides
 * it. Cheap; may be called again. */
dscm_code dscm_gemm_check(dscm_error *err) DSCM_MUST_CHECK;

/* Library version and core type, static storage. */
const char *dscm_gemm_library(void);

#endif
