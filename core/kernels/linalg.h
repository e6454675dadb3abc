/* Dense symmetric eigenproblems through LAPACK (shipped inside OpenBLAS). Double precision: used by
 * statistics, never in a network step. */
#ifndef DSCM_CORE_KERNELS_LINALG_H
#define DSCM_CORE_KERNELS_LINALG_H

#include <stddef.h>

#include "core/base/error.h"

/* Eigenvalues (n), ascending, and eigenvectors of a symmetric matrix a (n,n): on return row i of
 * `a` is the eigenvector of values[i]. n: 1..4096. DSCM_E_SYSTEM when LAPACK does not converge or is
 * not installed. */
dscm_code dscm_eigen_symmetric(double *a, double *values, size_t n,
                               dscm_error *err) DSCM_MUST_CHECK;

#endif
