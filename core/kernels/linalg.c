#include "core/kernels/linalg.h"

#include "core/base/memory.h"
#include "core/kernels/openblas.h"

#define EIGEN_MAX 4096

dscm_code dscm_eigen_symmetric(double *a, double *values, size_t n, dscm_error *err)
{
    if (n < 1 || n > EIGEN_MAX)
        return dscm_fail(err, DSCM_E_INVALID, "eigenproblem: size %zu is not in 1..%d", n,
                         EIGEN_MAX);
    const dscm_openblas *blas = dscm_openblas_load(err);
    if (!blas) return DSCM_E_SYSTEM;
    int order = (int)n, info = 0, query = -1;
    double best = 0;
    blas->dsyev("V", "U", &order, a, &order, values, &best, &query, &info, 1, 1);
    int lwork = info == 0 && best >= 3.0 * (double)n ? (int)best : 3 * order;
    double *work = dscm_alloc((size_t)lwork, sizeof *work, "eigenproblem", err);
    if (!work) return DSCM_E_MEMORY;
    /* Fortran's columns are our rows, and the matrix is symmetric: eigenvectors come out as rows.
     */
    blas->dsyev("V", "U", &order, a, &order, values, work, &lwork, &info, 1, 1);
    dscm_free(work);
    if (info != 0)
        return dscm_fail(err, DSCM_E_SYSTEM, "eigenproblem: LAPACK dsyev returned %d for size %zu",
                         info, n);
    return DSCM_OK;
}
