/* OpenBLAS, loaded when it is first needed and not with the program: its initialisation starts a thread
 * per processor and ends the process where it may not, which `--version` and callers of the library
 * that multiply nothing must not suffer. Only core/kernels includes this.
 */
#ifndef DSCM_CORE_KERNELS_OPENBLAS_H
#define DSCM_CORE_KERNELS_OPENBLAS_H

#include <cblas.h>
#include <stddef.h>

#include "core/base/error.h"

typedef struct dscm_openblas {
    void (*sgemm)(enum CBLAS_ORDER order, enum CBLAS_TRANSPOSE trans_a,
                  enum CBLAS_TRANSPOSE trans_b, int m, int n, int k, float alpha, const float *a,
                  int lda, const float *b, int ldb, float beta, float *c, int ldc);
    /* LAPACK's Fortran symbol; the two trailing lengths belong to the character arguments. */
    void (*dsyev)(const char *jobz, const char *uplo, const int *n, double *a, const int *lda,
                  double *w, double *work, const int *lwork, int *info, size_t jobz_length,
                  size_t uplo_length);
    const char *config, *core; /* version with options, and whose kernels it chose; static */
} dscm_openblas;

/* The loaded library, one BLAS thread per caller, never unloaded; NULL with DSCM_E_SYSTEM in `err` where
 * it is not installed. Any thread may call it. */
const dscm_openblas *dscm_openblas_load(dscm_error *err) DSCM_MUST_CHECK;

#endif
