/* A team: a fixed set of threads that share the loop iterations of one piece of work.
 *
 * The caller's thread is worker 0 and takes part. A team runs one loop at a time and belongs to the
 * thread that opened it; loops do not nest. Nothing here is needed for one-thread work: a NULL team
 * runs the loop in the caller.
 */
#ifndef DSCM_CORE_BASE_TEAM_H
#define DSCM_CORE_BASE_TEAM_H

#include <stddef.h>

#include "core/base/error.h"

#define DSCM_TEAM_MAX 256

typedef struct dscm_team dscm_team;

/* threads: 1..DSCM_TEAM_MAX, counting the caller. */
dscm_code dscm_team_open(dscm_team **out, int threads, dscm_error *err) DSCM_MUST_CHECK;
void dscm_team_free(dscm_team *team);      /* takes NULL */
int dscm_team_size(const dscm_team *team); /* 1 for NULL */

/* Calls fn(arg, index, worker) once for every index in 0..count-1, worker in 0..size-1 telling
 * which thread runs it (for per-thread scratch), and returns when all are done. Which worker takes
 * which index is not fixed: results must not depend on it. */
void dscm_team_run(dscm_team *team, size_t count, void (*fn)(void *arg, size_t index, int worker),
                   void *arg);

#endif
