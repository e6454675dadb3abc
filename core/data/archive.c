#include "core/data/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

#include "core/base/memory.h"

#define BLOCK ((size_t)1 << 16)

struct dscm_archive {
    struct archive *reader;
    const char *path; /* borrowed from `copy` */
    char *copy;
};

static dscm_code trouble(dscm_archive *a, dscm_error *err)
{
    const char *text = archive_error_string(a->reader);
    int number = archive_errno(a->reader);
    dscm_code code = number == ENOENT                                        ? DSCM_E_NOT_FOUND
                     : number == ENOMEM                                      ? DSCM_E_MEMORY
                     : number == EACCES || number == EIO || number == EISDIR ? DSCM_E_IO
                                                                             : DSCM_E_FORMAT;
    return dscm_fail(err, code, "%s: %s", a->path,
                     code == DSCM_E_NOT_FOUND ? "no such file"
                     : text                   ? text
                                              : "the archive cannot be read");
}

dscm_code dscm_archive_open(dscm_archive **out, const char *path, dscm_error *err)
{
    *out = NULL;
    dscm_archive *a = dscm_alloc(1, sizeof *a, "archive", err);
    if (!a) return DSCM_E_MEMORY;
    a->path = a->copy = dscm_strdup(path, err);
    a->reader = a->copy ? archive_read_new() : NULL;
    if (!a->reader) {
        dscm_archive_close(a);
        return dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    }
    archive_read_support_format_tar(a->reader);
    archive_read_support_filter_gzip(a->reader);
    archive_read_support_filter_bzip2(a->reader);
    archive_read_support_filter_xz(a->reader);
    archive_read_support_filter_zstd(a->reader);
    dscm_code code = DSCM_OK;
    if (archive_read_open_filename(a->reader, path, BLOCK) != ARCHIVE_OK) code = trouble(a, err);
    if (code != DSCM_OK) {
        dscm_archive_close(a);
        return code;
    }
    *out = a;
    return DSCM_OK;
}

void dscm_archive_close(dscm_archive *a)
{
    if (!a) return;
    if (a->reader) archive_read_free(a->reader);
    dscm_free(a->copy);
    dscm_free(a);
}

dscm_code dscm_archive_next(dscm_archive *a, const char **name, uint64_t *size, dscm_error *err)
{
    struct archive_entry *entry;
    for (;;) {
        *name = NULL;
        *size = 0;
        int status = archive_read_next_header(a->reader, &entry);
        if (status == ARCHIVE_EOF) return DSCM_OK;
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) return trouble(a, err);
        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry)) continue;
        *name = archive_entry_pathname(entry);
        if (!*name) continue; /* a name that is not text in any encoding */
        *size = archive_entry_size(entry) > 0 ? (uint64_t)archive_entry_size(entry) : 0;
        return DSCM_OK;
    }
}

dscm_code dscm_archive_read(dscm_archive *a, unsigned char *bytes, size_t size, dscm_error *err)
{
    size_t done = 0;
    while (done < size) {
        la_ssize_t got = archive_read_data(a->reader, bytes + done, size - done);
        if (got < 0) return trouble(a, err);
        if (got == 0) return dscm_fail(err, DSCM_E_FORMAT, "%s: the archive is cut off", a->path);
        done += (size_t)got;
    }
    return DSCM_OK;
}
