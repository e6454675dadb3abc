#include "core/io/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdbool.h>
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
    SHA256(bytes, size, digest);
    print_digest(out, digest);
}

static dscm_code digest_of(int fd, const char *path, EVP_MD_CTX *context, unsigned char *piece,
                           char out[65], dscm_error *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    bool good = EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    ssize_t n = 0;
    while (good && ((n = read(fd, piece, PIECE)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0) good = EVP_DigestUpdate(context, piece, (size_t)n) == 1;
    if (n < 0) return dscm_fail(err, DSCM_E_IO, "%s: reading failed: %s", path, strerror(errno));
    if (!good || EVP_DigestFinal_ex(context, digest, NULL) != 1)
        return dscm_fail(err, DSCM_E_SYSTEM, "%s: SHA-256 failed", path);
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
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char *piece = dscm_alloc(PIECE, 1, path, err);
    dscm_code code = DSCM_OK;
    if (!context || !piece)
        code = dscm_fail(err, DSCM_E_MEMORY, "%s: out of memory", path);
    else if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        code = dscm_fail(err, DSCM_E_IO, "%s: not a regular file", path);
    else
        code = digest_of(fd, path, context, piece, out, err);
    EVP_MD_CTX_free(context);
    dscm_free(piece);
    close(fd);
    return code;
}

struct dscm_sha256 {
    EVP_MD_CTX *context;
    bool failed;
};

dscm_code dscm_sha256_open(dscm_sha256 **out, dscm_error *err)
{
    dscm_sha256 *d = *out = dscm_alloc(1, sizeof *d, "SHA-256", err);
    if (!d) return DSCM_E_MEMORY;
    d->context = EVP_MD_CTX_new();
    d->failed = !d->context || EVP_DigestInit_ex(d->context, EVP_sha256(), NULL) != 1;
    return DSCM_OK;
}

void dscm_sha256_add(dscm_sha256 *d, const void *bytes, size_t size)
{
    if (!d->failed) d->failed = EVP_DigestUpdate(d->context, bytes, size) != 1;
}

dscm_code dscm_sha256_close(dscm_sha256 *d, char out[65], dscm_error *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (d->failed || EVP_DigestFinal_ex(d->context, digest, NULL) != 1)
        return dscm_fail(err, DSCM_E_SYSTEM, "SHA-256 failed");
    print_digest(out, digest);
    return DSCM_OK;
}

void dscm_sha256_free(dscm_sha256 *d)
{
    if (!d) return;
    EVP_MD_CTX_free(d->context);
    dscm_free(d);
}
