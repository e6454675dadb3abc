#include "core/kernels/gemm.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "core/kernels/openblas.h"

void dscm_gemm(bool trans_a, bool trans_b, size_t m, size_t n, size_t k, float alpha,
               const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
               size_t ldc)
{
    const dscm_openblas *blas = dscm_openblas_load(NULL);
    assert(blas);
    blas->sgemm(CblasRowMajor, trans_a ? CblasTrans : CblasNoTrans,
                trans_b ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a, (int)lda, b,
                (int)ldb, beta, c, (int)ldc);
}

const char *dscm_gemm_library(void)
{
    const dscm_openblas *blas = dscm_openblas_load(NULL);
    return blas ? blas->config : "no OpenBLAS";
}

#define CHECK_MAX 70

/* One product of sizes (m,n,k) against plain loops: largest difference, relative to sqrt(k). */
static double check_product(size_t m, size_t n, size_t k, bool trans_a, bool trans_b)
{
    float a[CHECK_MAX * CHECK_MAX], b[CHECK_MAX * CHECK_MAX], c[CHECK_MAX * CHECK_MAX];
    for (size_t i = 0; i < m * k; i++) a[i] = (float)((i * 7919 + 13) % 1009) / 504.0f - 1;
    for (size_t i = 0; i < k * n; i++) b[i] = (float)((i * 6007 + 71) % 1013) / 506.0f - 1;
    for (size_t i = 0; i < m * n; i++) c[i] = NAN;
    dscm_gemm(trans_a, trans_b, m, n, k, 1, a, trans_a ? m : k, b, trans_b ? k : n, 0, c, n);
    double worst = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)(trans_a ? a[p * m + i] : a[i * k + p]) *
                       (double)(trans_b ? b[j * k + p] : b[p * n + j]);
            double gap = fabs((double)c[i * n + j] - sum);
            if (!(gap <= worst)) worst = gap; /* a NaN is kept */
        }
    return worst / sqrt((double)k);
}

dscm_code dscm_gemm_check(dscm_error *err)
{
    static const size_t sizes[][3] = {
        {1, 1, 1}, {7, 33, 19}, {50, 50, 64}, {70, 64, 70}, {64, 17, 3}};
    const dscm_openblas *blas = dscm_openblas_load(err);
    if (!blas) return DSCM_E_SYSTEM;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int t = 0; t < 4; t++) {
            double gap = check_product(sizes[i][0], sizes[i][1], sizes[i][2], t & 1, t & 2);
            if (!(gap <= 1e-5))
                return dscm_fail(
                    err, DSCM_E_SYSTEM,
                    "matrix product %zux%zux%zu is wrong by %g: %s, core type %s; set "
                    "OPENBLAS_CORETYPE (for example Haswell) or install a newer OpenBLAS",
                    sizes[i][0], sizes[i][1], sizes[i][2], gap, blas->config, blas->core);
        }
    return DSCM_OK;
}
