#include "cli/stage.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/io/file.h"

dscm_code cli_stage_open(cli_stage *s, const char *folder, dscm_error *err)
{
    char path[sizeof s->path];
    *s = (cli_stage){.folder = folder, .fresh = mkdir(folder, 0777) == 0};
    if (!s->fresh && errno != EEXIST)
        return dscm_fail(err, DSCM_E_IO, "--out %s: cannot make the folder: %s", folder,
                         strerror(errno));
    int length = snprintf(path, sizeof path, "%s/.%ld.tmp", folder, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof path)
        return dscm_fail(err, DSCM_E_LIMIT, "--out %s: path too long", folder);
    if (mkdir(path, 0777) != 0)
        return dscm_fail(err, DSCM_E_IO, "--out %s: cannot write in the folder: %s", folder,
                         strerror(errno));
    memcpy(s->path, path, sizeof path);
    return DSCM_OK;
}

dscm_code cli_stage_take(const cli_stage *s, const char *name, dscm_error *err)
{
    char from[4096 + 300], to[4096 + 300];
    snprintf(from, sizeof from, "%s/%s", s->folder, name);
    snprintf(to, sizeof to, "%s/%s", s->path, name);
    if (link(from, to) == 0) return DSCM_OK;
    return dscm_file_copy(from, to, err);
}

dscm_code cli_stage_move(const cli_stage *s, const char *name, dscm_error *err)
{
    char from[4096 + 300], to[4096 + 300];
    snprintf(from, sizeof from, "%s/%s", s->path, name);
    snprintf(to, sizeof to, "%s/%s", s->folder, name);
    if (rename(from, to) == 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_IO, "%s: cannot put the new file there: %s", to, strerror(errno));
}

static void name_folder(const cli_stage *s, dscm_error *err)
{
    char text[sizeof err->message];
    char *at = strstr(err->message, s->path);
    if (!at) return;
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - err->message), err->message, s->folder,
             at + strlen(s->path));
    memcpy(err->message, text, sizeof text);
}

void cli_remove_folder(const char *path)
{
    char inside[2 * 4096];
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name);
        if (unlink(inside) != 0 && errno == EISDIR) cli_remove_folder(inside);
    }
    if (folder) closedir(folder);
    rmdir(path);
}

void cli_stage_close(cli_stage *s, dscm_error *err)
{
    if (*s->path) {
        cli_remove_folder(s->path);
        name_folder(s, err);
    }
    if (s->fresh) rmdir(s->folder); /* only when nothing came to be in it */
}
