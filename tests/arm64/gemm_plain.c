/* core/kernels/gemm.h by plain loops: for builds that have no BLAS to link, and only for tests. */
#include "core/kernels/gemm.h"

void dscm_gemm(bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
               const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
               size_t ldc)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (trans_a ? a[p * lda + i] : a[i * lda + p]) *
                       (trans_b ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
}

dscm_code dscm_gemm_check(dscm_error *err)
{
    (void)err;
    return DSCM_OK;
}

const char *dscm_gemm_library(void)
{
    return "plain loops instead of OpenBLAS";
}
