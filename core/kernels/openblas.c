#include "core/kernels/openblas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

static dscm_openblas loaded;
static dscm_error failure;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* As Debian, Fedora (with threads) and an installation from source name it. */
static const char *const file_names[] = {"libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so"};

/* Address of a function, for a pointer to a function: C has no conversion from `void *`. */
static bool find(void *library, const char *name, void *function)
{
    *(void **)function = dlsym(library, name);
    return *(void **)function != NULL;
}

static void load(void)
{
    void *library = NULL;
    for (size_t i = 0; !library && i < sizeof file_names / sizeof file_names[0]; i++)
        library = dlopen(file_names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        (void)dscm_fail(&failure, DSCM_E_SYSTEM, "OpenBLAS (%s) cannot be loaded: %s",
                        file_names[0], dlerror());
        return;
    }
    void (*set_threads)(int) = NULL;
    char *(*config)(void) = NULL, *(*core)(void) = NULL;
    if (!find(library, "cblas_sgemm", &loaded.sgemm) || !find(library, "dsyev_", &loaded.dsyev) ||
        !find(library, "openblas_set_num_threads", &set_threads) ||
        !find(library, "openblas_get_config", &config) ||
        !find(library, "openblas_get_corename", &core)) {
        (void)dscm_fail(&failure, DSCM_E_SYSTEM, "OpenBLAS is incomplete: %s", dlerror());
        return;
    }
    set_threads(1);
    loaded.config = config();
    loaded.core = core();
}

const dscm_openblas *dscm_openblas_load(dscm_error *err)
{
    pthread_once(&once, load);
    if (failure.code == DSCM_OK) return &loaded;
    (void)dscm_fail(err, failure.code, "%s", failure.message);
    return NULL;
}
