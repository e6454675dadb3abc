#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init and its kin, which work without memory */
#include "core/io/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/memory.h"

#define PIECE ((size_t)1 << 20)

static void print_digest(char out[65], const unsigned char digest[SHA256_DIGEST_LENGTH])
{
    for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void dscm_sha256_hex(char out[65], const void *bytes, size_t size)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX context;
    SHA256_Init(&context);
    SHA256_Update(&context, bytes, size);
    SHA256_Final(digest, &context);
    print_digest(out, digest);
}

static dscm_code digest_of(int fd, const char *path, unsigned char *piece, char out[65],
                           dscm_error *err)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX context;
    SHA256_Init(&context);
    ssize_t n;
    while ((n = read(fd, piece, PIECE)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0) SHA256_Update(&context, piece, (size_t)n);
    if (n < 0) return dscm_fail(err, DSCM_E_IO, "%s: reading failed: %s", path, strerror(errno));
    SHA256_Final(digest, &context);
    print_digest(out, digest);
    return DSCM_OK;
}

dscm_code dscm_sha256_file(char out[65], const char *path, dscm_error *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return dscm_fail(err, errno == ENOENT ? DSCM_E_NOT_FOUND : DSCM_E_IO, "%s: cannot open: %s",
                         path, strerror(errno));
    unsigned char *piece = dscm_alloc(PIECE, 1, path, err);
    dscm_code code = DSCM_OK;
    if (!piece)
        code = DSCM_E_MEMORY;
    else if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        code = dscm_fail(err, DSCM_E_IO, "%s: not a regular file", path);
    else
        code = digest_of(fd, path, piece, out, err);
    dscm_free(piece);
    close(fd);
    return code;
}

struct dscm_sha256 {
    SHA256_CTX context;
};

dscm_code dscm_sha256_open(dscm_sha256 **out, dscm_error *err)
{
    dscm_sha256 *d = *out = dscm_alloc(1, sizeof *d, "SHA-256", err);
    if (!d) return DSCM_E_MEMORY;
    SHA256_Init(&d->context);
    return DSCM_OK;
}

void dscm_sha256_add(dscm_sha256 *d, const void *bytes, size_t size)
{
    SHA256_Update(&d->context, bytes, size);
}

dscm_code dscm_sha256_close(dscm_sha256 *d, char out[65], dscm_error *err)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    if (SHA256_Final(digest, &d->context) != 1)
        return dscm_fail(err, DSCM_E_SYSTEM, "SHA-256 failed");
    print_digest(out, digest);
    return DSCM_OK;
}

void dscm_sha256_free(dscm_sha256 *d)
{
    dscm_free(d);
}
