/* Manifests of bundles, described without their files. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/diffscm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/diffscm-fuzz-XXXXXX", path[64], other[64];

static void tidy(void)
{
    unlink(path);
    unlink(other);
    rmdir(dir);
}

/* The files that it lists: one is there, "file", which holds its own name. */
static void load_files(void)
{
    dscm_load_options options = dscm_load_defaults();
    dscm_bundle *bundle = NULL;
    dscm_error err = {0};
    options.threads = 1;
    if (dscm_bundle_load(&bundle, dir, &options, &err) != DSCM_OK && !err.message[0])
        __builtin_trap();
    dscm_bundle_free(bundle);
}

static void make_folder(void)
{
    if (!mkdtemp(dir)) abort();
    snprintf(path, sizeof path, "%s/manifest.json", dir);
    snprintf(other, sizeof other, "%s/file", dir);
    int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "file", 4) != 4) abort();
    close(fd);
    atexit(tidy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dscm_load_options options = dscm_load_defaults();
    dscm_bundle *bundle = NULL;
    dscm_error err = {0};
    if (!path[0]) make_folder();
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    close(fd);
    options.describe = true;
    if (dscm_bundle_load(&bundle, dir, &options, &err) == DSCM_OK) {
        const dscm_bundle_info *info = dscm_bundle_describe(bundle);
        dscm_options resolved = dscm_options_defaults();
        if (info->image < 0 || (size_t)info->image >= info->variables_count) __builtin_trap();
        for (size_t i = 0; i < info->variables_count; i++)
            for (size_t p = 0; p < info->variables[i].parents_count; p++)
                if (info->variables[i].parents[p] >= (int)i) __builtin_trap();
        if (dscm_options_resolve(bundle, &resolved, &err) != DSCM_OK && !err.message[0])
            __builtin_trap();
        dscm_bundle_free(bundle);
        load_files();
    } else if (!err.code || !err.message[0])
        __builtin_trap();
    return 0;
}
