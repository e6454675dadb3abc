#include "core/base/cpu.h"

#include <sched.h>
#include <stdio.h>

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

/* CPUs granted by the cgroup bandwidth controller (v2, then v1), or 0 when there is no limit. */
static int cgroup_cpus(void)
{
    long quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "r");
    if (f) {
        if (fscanf(f, "%ld %ld", &quota, &period) != 2) quota = 0;
        fclose(f);
    } else {
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r");
        if (f) {
            if (fscanf(f, "%ld", &quota) != 1) quota = 0;
            fclose(f);
        }
        f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r");
        if (f) {
            if (fscanf(f, "%ld", &period) != 1) period = 0;
            fclose(f);
        }
    }
    if (quota <= 0 || period <= 0) return 0;
    return (int)((quota + period - 1) / period);
}

int dscm_cpu_count(void)
{
    cpu_set_t set;
    int count = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
    int quota = cgroup_cpus();
    if (quota > 0 && quota < count) count = quota;
    return count < 1 ? 1 : count;
}
