/* Files of keys, and values of Authorization headers: the first line is the header, the rest the file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char path[] = "/tmp/diffscm-fuzz-XXXXXX";
    static int fd = -1;
    const uint8_t *end = memchr(data, '\n', size);
    size_t length = end ? (size_t)(end - data) : size, rest = end ? size - length - 1 : 0;
    char name[DSCM_KEY_NAME_SIZE], *header = malloc(length + 1);
    dscm_keys *keys = NULL;
    dscm_error err = {0};
    if (!header) return 0;
    memcpy(header, data, length);
    header[length] = 0;
    if (fd < 0 && (fd = mkstemp(path)) >= 0) unlink(path);
    if (fd < 0 || ftruncate(fd, 0) != 0 ||
        pwrite(fd, end ? end + 1 : data, rest, 0) != (ssize_t)rest)
        abort();
    if (!size && (dscm_keys_open(&keys, "/", &err) == DSCM_OK ||
                  dscm_keys_open(&keys, "/nowhere", &err) == DSCM_OK))
        __builtin_trap();
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd);
    if (dscm_keys_open(&keys, own, &err) == DSCM_OK) {
        if (dscm_keys_check(keys, NULL, name)) __builtin_trap(); /* a file lets nobody in without */
        if (dscm_keys_check(keys, header, name) && (!name[0] || strlen(name) >= sizeof name))
            __builtin_trap();
    } else if (!err.code || !err.message[0])
        __builtin_trap();
    dscm_keys_free(keys);
    free(header);
    return 0;
}
