#include "core/base/version.h"

const char *dscm_version(void)
{
    return DSCM_VERSION;
}
