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
        code = dscm_fail(err, DSCM_E_IO, "%s: not a regular file", path);
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

/* Pipes and devices cannot be replaced (and a device must not be): written as they are. */
static dscm_code write_through(const char *path, const dscm_piece *pieces, size_t count,
                               dscm_error *err)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return dscm_fail(err, DSCM_E_IO, "%s: cannot write: %s", path, strerror(errno));
    bool good = true;
    for (size_t i = 0; good && i < count; i++) good = write_all(fd, pieces[i].data, pieces[i].size);
    good = close(fd) == 0 && good;
    return good ? DSCM_OK
                : dscm_fail(err, DSCM_E_IO, "%s: writing failed: %s", path, strerror(errno));
}

dscm_code dscm_file_replace(const char *path, const dscm_piece *pieces, size_t count,
                            dscm_error *err)
{
    char temporary[4096], target[PATH_MAX];
    struct stat info;
    if (stat(path, &info) == 0) {
        if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
            return write_through(path, pieces, count, err);
        /* a link stays one: the file it names is replaced */
        if (realpath(path, target)) path = target;
    }
    int length = snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof temporary)
        return dscm_fail(err, DSCM_E_LIMIT, "%s: the path is too long", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return dscm_fail(err, DSCM_E_IO, "%s: cannot write: %s", temporary, strerror(errno));
    bool good = true;
    for (size_t i = 0; good && i < count; i++) good = write_all(fd, pieces[i].data, pieces[i].size);
    good = good && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    good = good && rename(temporary, path) == 0;
    if (good) return DSCM_OK;
    dscm_fail(err, DSCM_E_IO, "%s: writing failed: %s", path, strerror(errno));
    unlink(temporary);
    return DSCM_E_IO;
}
