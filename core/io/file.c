#include "core/io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/memory.h"

static bool read_all(int fd, unsigned char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, bytes + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

dscm_code dscm_file_read(const char *path, size_t limit, unsigned char **bytes, size_t *size,
                         dscm_error *err)
{
    struct stat info;
    *bytes = NULL;
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dscm_fail(err, errno == ENOENT ? DSCM_E_NOT_FOUND : DSCM_E_IO, "%s: cannot open: %s",
                         path, strerror(errno));
    dscm_code code = DSCM_OK;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        code = dscm_fail(err, DSCM_E_IO, "%s: is %s, must be a file", path,
                         S_ISDIR(info.st_mode) ? "a folder" : "a pipe or device");
    else if ((size_t)info.st_size > limit)
        code = dscm_fail(err, DSCM_E_LIMIT, "%s: %zu bytes are more than the %zu accepted", path,
                         (size_t)info.st_size, limit);
    if (code == DSCM_OK) {
        *size = (size_t)info.st_size;
        *bytes = dscm_alloc(*size + 1, 1, path, err);
        if (!*bytes)
            code = DSCM_E_MEMORY;
        else if (!read_all(fd, *bytes, *size))
            code = dscm_fail(err, DSCM_E_IO, "%s: reading failed", path);
    }
    close(fd);
    if (code != DSCM_OK) {
        dscm_free(*bytes);
        *bytes = NULL;
        *size = 0;
    }
    return code;
}

static bool write_all(int fd, const unsigned char *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, bytes + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

struct dscm_file_writer {
    int fd;
    bool through; /* straight into a pipe or a device */
    char path[PATH_MAX], temporary[PATH_MAX + 32];
};

static dscm_code open_writer(dscm_file_writer *w, const char *path, dscm_error *err)
{
    struct stat info;
    bool there = stat(path, &info) == 0;
    w->fd = -1;
    /* Pipes and devices cannot be replaced (and a device must not be): written as they are. */
    w->through = there && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
    /* A link stays one: the file it names is replaced. */
    if (!there || !realpath(path, w->path)) {
        if (strlen(path) >= sizeof w->path)
            return dscm_fail(err, DSCM_E_LIMIT, "%s: the path is too long", path);
        snprintf(w->path, sizeof w->path, "%s", path);
    }
    snprintf(w->temporary, sizeof w->temporary, "%s.%ld.tmp", w->path, (long)getpid());
    w->fd = w->through ? open(path, O_WRONLY | O_CLOEXEC)
                       : open(w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w->fd >= 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_IO, "%s: cannot write: %s", w->through ? path : w->temporary,
                     strerror(errno));
}

dscm_code dscm_file_begin(dscm_file_writer **out, const char *path, dscm_error *err)
{
    *out = NULL;
    dscm_file_writer *w = dscm_alloc(1, sizeof *w, path, err);
    if (!w) return DSCM_E_MEMORY;
    dscm_code code = open_writer(w, path, err);
    if (code == DSCM_OK)
        *out = w;
    else
        dscm_free(w);
    return code;
}

static dscm_code writing_failed(const dscm_file_writer *w, dscm_error *err)
{
    return dscm_fail(err, DSCM_E_IO, "%s: writing failed: %s", w->path, strerror(errno));
}

dscm_code dscm_file_put(dscm_file_writer *w, const void *bytes, size_t size, dscm_error *err)
{
    return write_all(w->fd, bytes, size) ? DSCM_OK : writing_failed(w, err);
}

dscm_code dscm_file_commit(dscm_file_writer *w, dscm_error *err)
{
    bool good = w->through || fsync(w->fd) == 0;
    good = close(w->fd) == 0 && good;
    w->fd = -1;
    good = good && (w->through || rename(w->temporary, w->path) == 0);
    dscm_code code = good ? DSCM_OK : writing_failed(w, err);
    if (good) w->through = true; /* nothing is left to remove */
    dscm_file_abandon(w);
    return code;
}

void dscm_file_abandon(dscm_file_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (!w->through) unlink(w->temporary);
    dscm_free(w);
}

dscm_code dscm_file_replace(const char *path, const dscm_piece *pieces, size_t count,
                            dscm_error *err)
{
    dscm_file_writer *w = NULL;
    dscm_code code = dscm_file_begin(&w, path, err);
    for (size_t i = 0; i < count && code == DSCM_OK; i++)
        code = dscm_file_put(w, pieces[i].data, pieces[i].size, err);
    if (code == DSCM_OK) return dscm_file_commit(w, err);
    dscm_file_abandon(w);
    return code;
}

#define COPY_MAX ((size_t)8 << 30)

dscm_code dscm_file_copy(const char *from, const char *to, dscm_error *err)
{
    unsigned char *bytes = NULL;
    size_t size = 0;
    dscm_code code = dscm_file_read(from, COPY_MAX, &bytes, &size, err);
    if (code == DSCM_OK) {
        const dscm_piece piece = {bytes, size};
        code = dscm_file_replace(to, &piece, 1, err);
    }
    dscm_free(bytes);
    return code;
}
