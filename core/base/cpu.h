/* What this processor offers and how much of it we may use. Pure queries, no state. */
#ifndef DSCM_CORE_BASE_CPU_H
#define DSCM_CORE_BASE_CPU_H

#ifdef __cplusplus
extern "C" {
#endif

/* Instruction sets for which the kernels are compiled. On arm64 only DSCM_ISA_BASE exists. */
typedef enum dscm_isa { DSCM_ISA_BASE, DSCM_ISA_AVX2, DSCM_ISA_AVX512, DSCM_ISA_COUNT } dscm_isa;

const char *dscm_isa_name(dscm_isa isa); /* "base", "avx2", "avx512" */
dscm_isa dscm_cpu_best_isa(void);        /* the widest one that this processor runs */
/* Processors this process may use: affinity mask and cgroup quota (rounded up), at least 1. */
int dscm_cpu_count(void);
/* CPUs that the bandwidth controllers of cgroups grant, rounded up; 0: no limit. `membership` is
 * /proc/self/cgroup or a file like it, `mount` /sys/fs/cgroup or a folder like it. */
int dscm_cpu_quota(const char *membership, const char *mount);

#ifdef __cplusplus
}
#endif

#endif
