/* Bearer keys: a file with one "NAME SHA256-HEX" per line ('#' starts a comment), reloaded on
 * demand. The file holds hashes only, so reading it gives nobody access.
 *
 * Make a line: printf '%s' "$KEY" | sha256sum | sed 's/^/alice /; s/ -$//'
 *
 * Does not rate-limit or expire keys. Threads: `lock` guards the list of keys; every function may
 * be called from any thread; nothing else is called with the lock held.
 */
#ifndef DSCM_SERVER_KEYS_H
#define DSCM_SERVER_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

#define DSCM_KEY_NAME_SIZE 48
#define DSCM_KEYS_MAX      1024

typedef struct dscm_keys dscm_keys;

/* path NULL or empty: no keys, everyone is anonymous. Caller owns *out. */
dscm_code dscm_keys_open(dscm_keys **out, const char *path, dscm_error *err) DSCM_MUST_CHECK;
void dscm_keys_free(dscm_keys *keys); /* takes NULL */
/* Reads the file again; on failure the keys in force stay. *count gets their number. */
dscm_code dscm_keys_reload(dscm_keys *keys, size_t *count, dscm_error *err) DSCM_MUST_CHECK;
/* Checks the value of an Authorization header (NULL: none given). True when access is granted;
 * `name` then holds the key's name, or "" for anonymous access. */
bool dscm_keys_check(dscm_keys *keys, const char *authorization, char name[DSCM_KEY_NAME_SIZE]);

#endif
