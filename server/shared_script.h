/* The script that Redis runs for the shared store. Pure. */
#ifndef DSCM_SERVER_SHARED_SCRIPT_H
#define DSCM_SERVER_SHARED_SCRIPT_H

#include "server/blob.h"

dscm_span dscm_shared_script(void); /* static storage */

#endif
