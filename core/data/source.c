#include "core/data/source.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/memory.h"
#include "core/data/archive.h"
#include "core/io/file.h"

#define FILES_MAX   ((size_t)4000000)
#define DEPTH_MAX   16
#define PATH_SIZE   4096
#define BATCH_FILES 256
#define BATCH_BYTES ((size_t)64 << 20)

void dscm_source_close(dscm_source *s)
{
    for (size_t i = 0; i < s->count; i++) dscm_free(s->files[i].name);
    free(s->files);
    dscm_free(s->path);
    *s = (dscm_source){0};
}

static dscm_code add(dscm_source *s, const char *name, uint64_t size, int64_t changed,
                     dscm_error *err)
{
    if (s->count == FILES_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: more than %zu files", s->path, FILES_MAX);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 1024;
        dscm_source_file *grown = realloc(s->files, capacity * sizeof *grown);
        if (!grown) return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", s->path);
        s->files = grown;
        s->capacity = capacity;
    }
    char *copy = dscm_strdup(name, err);
    if (!copy) return DSCM_E_MEMORY;
    s->files[s->count++] = (dscm_source_file){copy, size, changed};
    return DSCM_OK;
}

static int64_t changed_at(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static bool left_out(const char *name)
{
    return name[0] == '.' || strcmp(name, "__MACOSX") == 0;
}

/* ---- folders ---- */
static dscm_code walk(dscm_source *s, char *relative, size_t length, int depth, dscm_error *err);

static dscm_code visit(dscm_source *s, char *relative, size_t length, int depth, dscm_error *err)
{
    char path[2 * PATH_SIZE];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", s->path, relative);
    if (stat(path, &st) != 0) return DSCM_OK; /* a dangling link is no file */
    if (S_ISDIR(st.st_mode)) return walk(s, relative, length, depth + 1, err);
    if (!S_ISREG(st.st_mode)) return DSCM_OK;
    return add(s, relative, (uint64_t)st.st_size, changed_at(&st), err);
}

static dscm_code walk(dscm_source *s, char *relative, size_t length, int depth, dscm_error *err)
{
    char path[2 * PATH_SIZE];
    struct dirent *entry;
    dscm_code code = DSCM_OK;
    snprintf(path, sizeof path, "%s/%s", s->path, relative);
    if (depth > DEPTH_MAX)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: more than %d folders in one another", path,
                         DEPTH_MAX);
    DIR *dir = opendir(path);
    if (!dir) return dscm_fail(err, DSCM_E_IO, "%s: cannot be read: %s", path, strerror(errno));
    while (code == DSCM_OK && (entry = readdir(dir))) {
        if (left_out(entry->d_name)) continue;
        int more = snprintf(relative + length, PATH_SIZE - length, "%s%s", length ? "/" : "",
                            entry->d_name);
        if (more < 0 || (size_t)more >= PATH_SIZE - length)
            code = dscm_fail(err, DSCM_E_LIMIT, "%s/%s: path too long", path, entry->d_name);
        else
            code = visit(s, relative, length + (size_t)more, depth, err);
        relative[length] = '\0';
    }
    closedir(dir);
    return code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const dscm_source_file *)a)->name, ((const dscm_source_file *)b)->name);
}

/* ---- archives ---- */
/* "./a/b" and "/a/b" are a/b; NULL: a hidden file, or one in a hidden folder. */
static const char *plain_name(const char *name)
{
    while (name[0] == '/' || (name[0] == '.' && name[1] == '/')) name += name[0] == '/' ? 1 : 2;
    for (const char *p = name; *p;) {
        char part[16];
        size_t n = strcspn(p, "/");
        snprintf(part, sizeof part, "%.*s", (int)(n < sizeof part ? n : sizeof part - 1), p);
        if (left_out(part)) return NULL;
        p += n + (p[n] == '/');
    }
    return *name ? name : NULL;
}

static dscm_code list_archive(dscm_source *s, int64_t changed, dscm_error *err)
{
    dscm_archive *a = NULL;
    const char *name;
    uint64_t size;
    dscm_code code = dscm_archive_open(&a, s->path, err);
    while (code == DSCM_OK && (code = dscm_archive_next(a, &name, &size, err)) == DSCM_OK && name)
        if ((name = plain_name(name))) code = add(s, name, size, changed, err);
    dscm_archive_close(a);
    return code;
}

dscm_code dscm_source_open(dscm_source *out, const char *path, dscm_error *err)
{
    struct stat st;
    char relative[PATH_SIZE] = "";
    *out = (dscm_source){0};
    size_t length = strlen(path);
    if (length >= PATH_SIZE) return dscm_fail(err, DSCM_E_LIMIT, "%s: path too long", path);
    if (stat(path, &st) != 0)
        return dscm_fail(err, errno == ENOENT || errno == ENOTDIR ? DSCM_E_NOT_FOUND : DSCM_E_IO,
                         "%s: %s", path,
                         errno == ENOENT ? "no such file or folder" : strerror(errno));
    out->path = dscm_strdup(path, err);
    if (!out->path) return DSCM_E_MEMORY;
    out->archive = !S_ISDIR(st.st_mode);
    dscm_code code =
        out->archive ? list_archive(out, changed_at(&st), err) : walk(out, relative, 0, 0, err);
    if (code == DSCM_OK && !out->archive && out->count)
        qsort(out->files, out->count, sizeof *out->files, by_name);
    if (code != DSCM_OK) dscm_source_close(out);
    return code;
}

/* ---- reading ---- */
typedef struct batch {
    dscm_source_piece *pieces; /* (BATCH_FILES) */
    size_t count, bytes;
    dscm_source_use use;
    void *arg;
} batch;

static dscm_code flush(batch *b, dscm_error *err)
{
    dscm_code code = b->count ? b->use(b->arg, b->pieces, b->count, err) : DSCM_OK;
    for (size_t i = 0; i < b->count; i++) dscm_free(b->pieces[i].bytes);
    b->count = b->bytes = 0;
    return code;
}

/* The next free piece, for file i. */
static dscm_source_piece *piece_for(batch *b, size_t file)
{
    dscm_source_piece *p = &b->pieces[b->count++];
    *p = (dscm_source_piece){.file = file};
    return p;
}

static bool is_full(const batch *b)
{
    return b->count == BATCH_FILES || b->bytes >= BATCH_BYTES;
}

static dscm_code read_folder(const dscm_source *s, const bool *wanted, size_t limit, batch *b,
                             dscm_error *err)
{
    char path[2 * PATH_SIZE];
    dscm_code code = DSCM_OK;
    for (size_t i = 0; code == DSCM_OK && i < s->count; i++) {
        if (!wanted[i]) continue;
        dscm_source_piece *p = piece_for(b, i);
        snprintf(path, sizeof path, "%s/%s", s->path, s->files[i].name);
        dscm_code one = dscm_file_read(path, limit, &p->bytes, &p->size, &p->error);
        if (one == DSCM_E_MEMORY) return dscm_fail(err, one, "%s", p->error.message);
        b->bytes += p->size;
        if (is_full(b)) code = flush(b, err);
    }
    return code;
}

static dscm_code take_entry(const dscm_source *s, dscm_archive *a, uint64_t size, size_t limit,
                            dscm_source_piece *p, dscm_error *err)
{
    const char *name = s->files[p->file].name;
    if (size > limit) {
        (void)dscm_fail(&p->error, DSCM_E_LIMIT, "%s: larger than %zu bytes", name, limit);
        return DSCM_OK;
    }
    p->bytes = dscm_alloc((size_t)size + 1, 1, name, err);
    if (!p->bytes) return DSCM_E_MEMORY;
    p->size = (size_t)size;
    return dscm_archive_read(a, p->bytes, p->size, err);
}

static dscm_code read_archive(const dscm_source *s, const bool *wanted, size_t limit, batch *b,
                              dscm_error *err)
{
    dscm_archive *a = NULL;
    const char *name;
    uint64_t size;
    size_t at = 0;
    dscm_code code = dscm_archive_open(&a, s->path, err);
    while (code == DSCM_OK && (code = dscm_archive_next(a, &name, &size, err)) == DSCM_OK && name) {
        if (!(name = plain_name(name))) continue;
        if (at == s->count || strcmp(name, s->files[at].name) != 0) {
            code = dscm_fail(err, DSCM_E_IO, "%s: changed while it was read", s->path);
            break;
        }
        size_t i = at++;
        if (!wanted[i]) continue;
        code = take_entry(s, a, size, limit, piece_for(b, i), err);
        b->bytes += b->pieces[b->count - 1].size;
        if (code == DSCM_OK && is_full(b)) code = flush(b, err);
    }
    dscm_archive_close(a);
    return code;
}

dscm_code dscm_source_read(const dscm_source *s, const bool *wanted, size_t limit,
                           dscm_source_use use, void *arg, dscm_error *err)
{
    batch b = {.use = use, .arg = arg};
    b.pieces = dscm_alloc(BATCH_FILES, sizeof *b.pieces, s->path, err);
    if (!b.pieces) return DSCM_E_MEMORY;
    dscm_code code = s->archive ? read_archive(s, wanted, limit, &b, err)
                                : read_folder(s, wanted, limit, &b, err);
    if (code == DSCM_OK) code = flush(&b, err);
    for (size_t i = 0; i < b.count; i++) dscm_free(b.pieces[i].bytes); /* after a failure */
    dscm_free(b.pieces);
    return code;
}
