#include "core/base/cpu.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *dscm_isa_name(dscm_isa isa)
{
    static const char *const names[DSCM_ISA_COUNT] = {"base", "avx2", "avx512"};
    return (int)isa >= 0 && isa < DSCM_ISA_COUNT ? names[isa] : "unknown";
}

dscm_isa dscm_cpu_best_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    return avx512 ? DSCM_ISA_AVX512 : avx2 ? DSCM_ISA_AVX2 : DSCM_ISA_BASE;
#else
    return DSCM_ISA_BASE;
#endif
}

/* ---- how much of it ---- */
/* The beginning of a small file of the kernel as a string; false when it cannot be read. Without a
 * stream: streams allocate, and a limit must not be overlooked because memory is short. */
static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t used = 0;
    ssize_t got = 0;
    while (used + 1 < size && (got = read(fd, text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    close(fd);
    return got >= 0;
}

static bool read_longs(const char *path, const char *format, long *a, long *b)
{
    char text[128];
    if (!read_text(path, text, sizeof text)) return false;
    return b ? sscanf(text, format, a, b) == 2 : sscanf(text, format, a) == 1;
}

/* CPUs that one group grants (v2, then v1), or 0 when it sets no limit or does not exist. */
static int group_cpus(const char *mount, const char *group, bool v2)
{
    char path[1024];
    long quota = 0, period = 0;
    if (v2) {
        snprintf(path, sizeof path, "%s%s/cpu.max", mount, group);
        if (!read_longs(path, "%ld %ld", &quota, &period)) return 0; /* "max": no limit */
    } else {
        snprintf(path, sizeof path, "%s/cpu%s/cpu.cfs_quota_us", mount, group);
        if (!read_longs(path, "%ld", &quota, NULL)) return 0;
        snprintf(path, sizeof path, "%s/cpu%s/cpu.cfs_period_us", mount, group);
        if (!read_longs(path, "%ld", &period, NULL)) return 0;
    }
    if (quota <= 0 || period <= 0) return 0;
    long cpus = (quota - 1) / period + 1;
    return cpus > INT_MAX ? 0 : (int)cpus;
}

/* The tightest limit on the way from a group up to the root: a parent's limit binds its children.
 * In a container the path may be the host's and not exist here; its root then holds the limit. */
static int path_cpus(const char *mount, char *group, bool v2)
{
    int least = 0;
    for (;;) {
        char *slash = strrchr(group, '/');
        bool root = !group[0] || strcmp(group, "/") == 0;
        int cpus = group_cpus(mount, root ? "" : group, v2);
        if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
        if (root || !slash) return least;
        *slash = '\0';
    }
}

/* Does the comma-separated list of controllers hold "cpu"? */
static bool has_cpu(const char *list, size_t length)
{
    for (size_t i = 0; i + 3 <= length; i++)
        if (strncmp(list + i, "cpu", 3) == 0 && (i == 0 || list[i - 1] == ',') &&
            (i + 3 == length || list[i + 3] == ','))
            return true;
    return false;
}

int dscm_cpu_quota(const char *membership, const char *mount)
{
    char text[8192], *rest = text, *line;
    int least = 0;
    if (!read_text(membership, text, sizeof text)) return 0;
    while ((line = strsep(&rest, "\n"))) { /* "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1) */
        char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
        if (!group) continue;
        bool v2 = group == list + 1;
        if (!v2 && !has_cpu(list + 1, (size_t)(group - list - 1))) continue;
        group++;
        int cpus = path_cpus(mount, group, v2);
        if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
    }
    return least;
}

int dscm_cpu_count(void)
{
    cpu_set_t set;
    long count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                             : sysconf(_SC_NPROCESSORS_ONLN);
    int quota = dscm_cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    if (quota > 0 && quota < count) count = quota;
    return count < 1 ? 1 : (int)count;
}
