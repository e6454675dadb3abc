/* Where the files that come with the program are, and where results may go. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"

#define PATH_SIZE 4096

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Folder of the program with `up` further folders taken off; false when there are not so many. */
static bool program_folder(char *out, size_t size, int up)
{
    ssize_t length = readlink("/proc/self/exe", out, size - 1);
    if (length <= 0) return false;
    out[length] = 0;
    for (int i = 0; i <= up; i++) {
        char *slash = strrchr(out, '/');
        if (!slash || slash == out) return false;
        *slash = 0;
    }
    return true;
}

/* share/diffscm beside the folder of the program: where `make install` puts the files. */
static bool share_folder(char *out, size_t size)
{
    if (!program_folder(out, size, 1)) return false;
    size_t used = strlen(out);
    return snprintf(out + used, size - used, "/share/diffscm") < (int)(size - used);
}

/* Names of the folders in BASE/KIND, as a list with commas; none where there is no such folder. */
static dscm_code list_folders(char *out, size_t size, const char *base, const char *kind,
                              dscm_error *err)
{
    char path[PATH_SIZE];
    struct dirent **entries;
    snprintf(path, sizeof path, "%s/%s", base, kind);
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0 && errno != ENOENT && errno != ENOTDIR)
        return dscm_fail(err, errno == ENOMEM ? DSCM_E_MEMORY : DSCM_E_IO,
                         "%s: cannot be listed: %s", path, strerror(errno));
    for (int i = 0; i < count; i++) {
        const char *name = entries[i]->d_name;
        size_t used = strlen(out);
        if (name[0] != '.' &&
            snprintf(path, sizeof path, "%s/%s/%s", base, kind, name) < PATH_SIZE &&
            is_folder(path))
            snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
        free(entries[i]);
    }
    if (count >= 0) free(entries);
    return DSCM_OK;
}

dscm_code cli_find_names(char *out, size_t size, const char *kind, const char *data_dir,
                         dscm_error *err)
{
    char base[PATH_SIZE];
    dscm_code code = DSCM_OK;
    *out = 0;
    if (data_dir && *data_dir) return list_folders(out, size, data_dir, kind, err);
    for (int up = 0; up < 3 && code == DSCM_OK && !*out; up++)
        if (program_folder(base, sizeof base, up)) code = list_folders(out, size, base, kind, err);
    if (code == DSCM_OK && !*out) code = list_folders(out, size, ".", kind, err);
    if (code == DSCM_OK && !*out && share_folder(base, sizeof base))
        code = list_folders(out, size, base, kind, err);
    return code;
}

/* One place: BASE/KIND/NAME. Notes it in `looked` when it is not there. */
static bool try_base(char *out, size_t size, const char *base, const char *kind, const char *name,
                     char *looked, size_t looked_size)
{
    int length = snprintf(out, size, name ? "%s/%s/%s" : "%s/%s", base, kind, name);
    if (length > 0 && (size_t)length < size && is_folder(out)) return true;
    size_t used = strlen(looked);
    snprintf(looked + used, looked_size - used, "%s%s", used ? ", " : "", base);
    return false;
}

dscm_code cli_find(char *out, size_t size, const char *kind, const char *name, const char *data_dir,
                   dscm_error *err)
{
    char looked[DSCM_MESSAGE_MAX / 2] = "", there[DSCM_MESSAGE_MAX / 4] = "", base[PATH_SIZE];
    if (name && strchr(name, '/')) {
        if (is_folder(name) && snprintf(out, size, "%s", name) < (int)size) return DSCM_OK;
        return dscm_fail(err, DSCM_E_NOT_FOUND, "there is no folder %s", name);
    }
    if (data_dir && *data_dir) {
        if (try_base(out, size, data_dir, kind, name, looked, sizeof looked)) return DSCM_OK;
        dscm_code listed =
            name ? cli_find_names(there, sizeof there, kind, data_dir, err) : DSCM_OK;
        if (listed != DSCM_OK) return listed;
        return dscm_fail(err, DSCM_E_NOT_FOUND, "there is no %s%s%s in the data folder %s%s%s",
                         kind, name ? "/" : "", name ? name : "", data_dir,
                         *there ? "; there are " : "", there);
    }
    for (int up = 0; up < 3; up++)
        if (program_folder(base, sizeof base, up) &&
            try_base(out, size, base, kind, name, looked, sizeof looked))
            return DSCM_OK;
    if (try_base(out, size, ".", kind, name, looked, sizeof looked)) return DSCM_OK;
    if (share_folder(base, sizeof base) &&
        try_base(out, size, base, kind, name, looked, sizeof looked))
        return DSCM_OK;
    if (name && is_folder(name) && snprintf(out, size, "%s", name) < (int)size) return DSCM_OK;
    dscm_code listed = name ? cli_find_names(there, sizeof there, kind, NULL, err) : DSCM_OK;
    if (listed != DSCM_OK) return listed;
    return dscm_fail(err, DSCM_E_NOT_FOUND, "there is no %s%s%s; looked in %s%s%s", kind,
                     name ? "/" : "", name ? name : "", looked, *there ? "; there are " : "",
                     there);
}

bool cli_is_name(const char *name)
{
    return *name && !strchr(name, '/');
}

/* Letters, digits, ".", "-", "_" and whatever is not ASCII. */
bool cli_is_word(const char *text)
{
    for (const char *p = text; *p; p++)
        if ((signed char)*p >= 0 && !isalnum((unsigned char)*p) && !strchr(".-_", *p)) return false;
    return *text && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

void cli_take_licence(const char *command, const char **licence)
{
    if (*licence && (*licence)[strspn(*licence, " \t\r\n")]) return;
    fprintf(stderr,
            "diffscm %s: warning: --licence is missing, so the manifest says \"not stated\"; state "
            "one before others get the model, such as --licence \"CC BY 4.0\"\n",
            command);
    *licence = "not stated";
}

dscm_code cli_check_picture(const char *option, const char *path, dscm_error *err)
{
    static const char *const others[] = {".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"};
    size_t length = path ? strlen(path) : 0;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        size_t n = strlen(others[i]);
        if (length > n && strcasecmp(path + length - n, others[i]) == 0)
            return dscm_fail(err, DSCM_E_INVALID,
                             "--%s %s: pictures are written as PNG; the name must not end in %s",
                             option, path, others[i]);
    }
    return DSCM_OK;
}

dscm_code cli_check_output(const char *option, const char *path, bool stream, dscm_error *err)
{
    char folder[PATH_SIZE];
    if (!path || (stream && strcmp(path, "-") == 0)) return DSCM_OK;
    if (strcmp(path, "-") == 0)
        return dscm_fail(err, DSCM_E_INVALID,
                         "--%s -: cannot go to standard output, must be the name of a file",
                         option);
    if (!*path) return dscm_fail(err, DSCM_E_INVALID, "--%s: the name is empty", option);
    if (is_folder(path))
        return dscm_fail(err, DSCM_E_INVALID, "--%s %s: is a folder, must be a file", option, path);
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder)
        return dscm_fail(err, DSCM_E_LIMIT, "--%s %s: the path is too long", option, path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        strcpy(folder, ".");
    else
        slash[slash == folder] = 0;
    if (!is_folder(folder))
        return dscm_fail(err, DSCM_E_NOT_FOUND, "--%s %s: there is no folder %s", option, path,
                         folder);
    if (access(folder, W_OK | X_OK) != 0)
        return dscm_fail(err, DSCM_E_IO, "--%s %s: cannot write in %s: %s", option, path, folder,
                         strerror(errno));
    return DSCM_OK;
}

dscm_code cli_check_apart(const char *option, const char *path, const char *other_option,
                          const char *other, dscm_error *err)
{
    struct stat a, b;
    if (!path || !other) return DSCM_OK;
    bool there = stat(path, &a) == 0;
    if (there && !S_ISREG(a.st_mode)) return DSCM_OK; /* a device or a pipe takes both */
    bool same = there && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
    if (!same && strcmp(path, other) != 0) return DSCM_OK;
    return dscm_fail(err, DSCM_E_INVALID, "--%s %s: is the file of --%s too; give it its own",
                     option, path, other_option);
}
