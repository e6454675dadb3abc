#include "server/keys.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/base/text.h"
#include "server/crypto.h"

typedef struct key {
    char name[DSCM_KEY_NAME_SIZE];
    uint8_t digest[DSCM_DIGEST_SIZE];
} key;

struct dscm_keys {
    char *path; /* NULL: no keys asked for */
    pthread_mutex_t lock;
    key *list;    /* lock */
    size_t count; /* lock */
};

static bool name_ok(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length >= DSCM_KEY_NAME_SIZE) return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) return false;
    return true;
}

/* One line of the file into *out; *used stays false for blanks and comments. */
static dscm_code parse_line(char *line, size_t number, const char *path, key *out, bool *used,
                            dscm_error *err)
{
    char *rest = NULL;
    *used = false;
    char *name = strtok_r(line, " \t\r\n", &rest);
    if (!name || name[0] == '#') return DSCM_OK;
    char *digest = strtok_r(NULL, " \t\r\n", &rest);
    char *more = digest ? strtok_r(NULL, " \t\r\n", &rest) : NULL;
    if (!name_ok(name))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s:%zu: a key's name is 1 to %d letters, digits, '.', '_' or '-'", path,
                         number, DSCM_KEY_NAME_SIZE - 1);
    if (!digest || (more && more[0] != '#') ||
        !dscm_crypto_unhex(digest, out->digest, DSCM_DIGEST_SIZE))
        return dscm_fail(err, DSCM_E_FORMAT,
                         "%s:%zu: expected NAME and the key's SHA-256 in 64 hexadecimal digits",
                         path, number);
    uint8_t of_nothing[DSCM_DIGEST_SIZE];
    dscm_crypto_digest("", 0, of_nothing);
    if (dscm_crypto_equal(out->digest, of_nothing, DSCM_DIGEST_SIZE))
        return dscm_fail(err, DSCM_E_INVALID,
                         "%s:%zu: key %s: this is the SHA-256 of an empty key, which would admit "
                         "everyone",
                         path, number, name);
    memcpy(out->name, name, strlen(name) + 1);
    *used = true;
    return DSCM_OK;
}

/* Without waiting, as a FIFO would make the caller do: it is read again on SIGHUP. */
static FILE *open_regular(const char *path, dscm_error *err)
{
    struct stat about = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        (void)dscm_fail(err, DSCM_E_NOT_FOUND, "keys file %s: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
        (void)dscm_fail(err, DSCM_E_INVALID,
                        "keys file %s is no regular file: it must be readable again on SIGHUP",
                        path);
        close(fd);
        return NULL;
    }
    FILE *file = fdopen(fd, "r");
    if (file) return file;
    (void)dscm_fail(err, DSCM_E_MEMORY, "keys file %s: %s", path, strerror(errno));
    close(fd);
    return NULL;
}

static dscm_code read_file(const char *path, key **list, size_t *count, dscm_error *err)
{
    *count = 0;
    *list = dscm_alloc(DSCM_KEYS_MAX, sizeof **list, "the list of keys", err);
    if (!*list) return DSCM_E_MEMORY;
    FILE *file = open_regular(path, err);
    char *line = NULL;
    size_t room = 0;
    dscm_code code = DSCM_OK;
    if (!file) {
        code = err ? err->code : DSCM_E_NOT_FOUND;
        goto fail;
    }
    for (size_t number = 1; getline(&line, &room, file) >= 0; number++) {
        bool used;
        key parsed = {0};
        size_t mark = number == 1 ? dscm_text_mark(line, strlen(line)) : 0;
        code = parse_line(line + mark, number, path, &parsed, &used, err);
        if (code != DSCM_OK) goto fail;
        if (!used) continue;
        if (*count == DSCM_KEYS_MAX) {
            code = dscm_fail(err, DSCM_E_LIMIT, "%s: more than %d keys", path, DSCM_KEYS_MAX);
            goto fail;
        }
        (*list)[(*count)++] = parsed;
    }
    if (ferror(file)) { /* a folder opens, too */
        code = dscm_fail(err, DSCM_E_IO, "keys file %s: %s", path, strerror(errno));
        goto fail;
    }
    if (*count == 0) {
        code = dscm_fail(err, DSCM_E_FORMAT, "%s: holds no key, so nobody would be let in", path);
        goto fail;
    }
    free(line);
    fclose(file);
    return DSCM_OK;
fail:
    free(line);
    if (file) fclose(file);
    dscm_free(*list);
    *list = NULL;
    return code;
}

dscm_code dscm_keys_open(dscm_keys **out, const char *path, dscm_error *err)
{
    dscm_keys *keys = dscm_alloc(1, sizeof *keys, "the keys", err);
    if (!keys) return DSCM_E_MEMORY;
    pthread_mutex_init(&keys->lock, NULL);
    dscm_code code = DSCM_OK;
    if (path && *path) {
        size_t count;
        keys->path = dscm_strdup(path, err);
        code = keys->path ? dscm_keys_reload(keys, &count, err) : DSCM_E_MEMORY;
    }
    if (code != DSCM_OK) {
        dscm_keys_free(keys);
        return code;
    }
    *out = keys;
    return DSCM_OK;
}

void dscm_keys_free(dscm_keys *keys)
{
    if (!keys) return;
    pthread_mutex_destroy(&keys->lock);
    dscm_free(keys->list);
    dscm_free(keys->path);
    dscm_free(keys);
}

dscm_code dscm_keys_reload(dscm_keys *keys, size_t *count, dscm_error *err)
{
    key *list;
    *count = 0;
    if (!keys->path) return DSCM_OK;
    dscm_code code = read_file(keys->path, &list, count, err);
    if (code != DSCM_OK) return code;
    pthread_mutex_lock(&keys->lock);
    key *old = keys->list;
    keys->list = list;
    keys->count = *count;
    pthread_mutex_unlock(&keys->lock);
    dscm_free(old);
    return DSCM_OK;
}

bool dscm_keys_check(dscm_keys *keys, const char *authorization, char name[DSCM_KEY_NAME_SIZE])
{
    name[0] = 0;
    if (!keys->path) return true;
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0) return false;
    const char *secret = authorization + 7;
    while (*secret == ' ') secret++;
    if (!*secret) return false;
    uint8_t digest[DSCM_DIGEST_SIZE];
    dscm_crypto_digest(secret, strlen(secret), digest);
    bool found = false;
    pthread_mutex_lock(&keys->lock);
    /* No early end: how long the search takes must not tell which key came near. */
    for (size_t i = 0; i < keys->count; i++)
        if (dscm_crypto_equal(keys->list[i].digest, digest, DSCM_DIGEST_SIZE)) {
            memcpy(name, keys->list[i].name, DSCM_KEY_NAME_SIZE);
            found = true;
        }
    pthread_mutex_unlock(&keys->lock);
    return found;
}
