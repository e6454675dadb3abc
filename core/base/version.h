/* The version of program and library. The Makefile reads it from here.
 *
 * Until 1.0 a new minor version may change the interface and has a new soname; a new patch version
 * changes neither functions nor structs of the public headers. */
#ifndef DSCM_CORE_BASE_VERSION_H
#define DSCM_CORE_BASE_VERSION_H

#define DSCM_VERSION_MAJOR 0
#define DSCM_VERSION_MINOR 1
#define DSCM_VERSION_PATCH 0
#define DSCM_VERSION       "0.1.0"

/* To compare: #if DSCM_VERSION_NUMBER >= 0x000200 asks for 0.2.0. */
#define DSCM_VERSION_NUMBER                                                                        \
    (DSCM_VERSION_MAJOR << 16 | DSCM_VERSION_MINOR << 8 | DSCM_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/* DSCM_VERSION of the library that runs, which need not be the one that was compiled against. */
const char *dscm_version(void);

#ifdef __cplusplus
}
#endif

#endif
