/* Errors of the whole program: one code table, one caller-owned object.
 *
 * Every function that can fail returns a dscm_code and takes `dscm_error *err` last (NULL allowed).
 * The first error wins: dscm_fail() leaves an error that is already set alone, so the layer that
 * knows the file or field writes the message. Broken contracts are asserts, not errors. Nothing
 * here prints or exits. Threads: an error object belongs to one thread at a time.
 */
#ifndef DSCM_CORE_BASE_ERROR_H
#define DSCM_CORE_BASE_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dscm_code {
    DSCM_OK = 0,
    /* the caller's data is bad */
    DSCM_E_INVALID,  /* a value out of range or of the wrong type */
    DSCM_E_UNKNOWN,  /* a name that does not exist: variable, label, sampler, option */
    DSCM_E_FORMAT,   /* a file or message is not what it claims to be */
    DSCM_E_LIMIT,    /* larger than what is accepted */
    DSCM_E_MISMATCH, /* two things that must agree do not: shapes, hashes, flags */
    /* the environment failed */
    DSCM_E_NOT_FOUND, /* no such file */
    DSCM_E_IO,        /* reading or writing failed */
    DSCM_E_MEMORY,    /* an allocation failed */
    DSCM_E_SYSTEM,    /* thread, library or processor trouble */
    /* the caller wanted it */
    DSCM_E_CANCELED, /* the progress callback asked to stop */
    DSCM_E_COUNT
} dscm_code;

#define DSCM_MESSAGE_MAX 512

typedef struct dscm_error {
    dscm_code code;
    char message[DSCM_MESSAGE_MAX]; /* one line, no trailing newline; names the field or file */
} dscm_error;

#define DSCM_MUST_CHECK     __attribute__((warn_unused_result))
#define DSCM_PRINTF(fmt, a) __attribute__((format(printf, fmt, a)))

/* Stores code and message in *err when err is not NULL and still DSCM_OK; returns `code` always. */
dscm_code dscm_fail(dscm_error *err, dscm_code code, const char *format, ...) DSCM_PRINTF(3, 4);

/* Puts "context: " before the message of an error that is set. err may be NULL. */
void dscm_error_prefix(dscm_error *err, const char *format, ...) DSCM_PRINTF(2, 3);

/* Short stable name such as "invalid" or "not-found"; "unknown-code" for anything outside the
 * table. Static storage. */
const char *dscm_code_name(dscm_code code);

#ifdef __cplusplus
}
#endif

#endif
