/* Opening a bundle: the loader plans the weights' memory beside that of sessions, which are made here. */
#include "core/kernels/gemm.h"
#include "core/scm/session.h"

dscm_code dscm_bundle_open(dscm_bundle **out, const char *dir, dscm_error *err)
{
    const dscm_load_options options = dscm_load_defaults();
    return dscm_bundle_load(out, dir, &options, err);
}

dscm_code dscm_bundle_load(dscm_bundle **out, const char *dir, const dscm_load_options *options,
                           dscm_error *err)
{
    *out = NULL;
    dscm_code code = options->describe ? DSCM_OK : dscm_gemm_check(err);
    return code != DSCM_OK ? code : bundle_load(out, dir, options, dscm_session_measure, err);
}
