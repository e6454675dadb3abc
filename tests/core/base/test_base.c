#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/base/team.h"
#include "tests/harness.h"

static void first_error_wins(void)
{
    dscm_error err = {0};
    CHECK_INT(dscm_fail(&err, DSCM_E_IO, "disk %d", 7), DSCM_E_IO);
    CHECK_INT(dscm_fail(&err, DSCM_E_MEMORY, "later"), DSCM_E_MEMORY);
    CHECK_INT(err.code, DSCM_E_IO);
    CHECK_STR(err.message, "disk 7");
    dscm_error_prefix(&err, "file %s", "a.bin");
    CHECK_STR(err.message, "file a.bin: disk 7");
    CHECK_STR(dscm_code_name(err.code), "io");
    CHECK_STR(dscm_code_name((dscm_code)99), "unknown-code");
}

static void sizes_are_checked(void)
{
    size_t n = 0;
    CHECK(!dscm_size_mul(SIZE_MAX, 2, &n));
    CHECK(!dscm_size_add(SIZE_MAX, 1, &n));
    CHECK(dscm_size_mul(3, 4, &n) && n == 12);
    dscm_error err = {0};
    CHECK(dscm_alloc(SIZE_MAX / 4, 8, "thing", &err) == NULL);
    CHECK_INT(err.code, DSCM_E_MEMORY);
    CHECK_HAS(err.message, "thing");
}

/* Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors). */
static void philox_known_answers(void)
{
    dscm_rng rng = dscm_rng_make(0, 0);
    const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    for (int i = 0; i < 4; i++) CHECK_INT(dscm_rng_u32(&rng), zero[i]);
    rng = dscm_rng_make(UINT64_MAX, UINT64_MAX);
    rng.counter = UINT64_MAX;
    const uint32_t ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    for (int i = 0; i < 4; i++) CHECK_INT(dscm_rng_u32(&rng), ones[i]);
}

static void normal_moments(void)
{
    enum { N = 100001 };
    static float x[N];
    dscm_rng rng = dscm_rng_make(test_seed, 3);
    dscm_rng_normal(&rng, x, N);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) sum += x[i], squares += (double)x[i] * x[i];
    CHECK_NEAR(sum / N, 0.0, 0.02);
    CHECK_NEAR(squares / N, 1.0, 0.03);
}

static void permutation_is_complete(void)
{
    uint32_t order[257];
    int seen[257] = {0};
    dscm_rng rng = dscm_rng_make(test_seed, 4);
    dscm_rng_permute(&rng, order, 257);
    for (int i = 0; i < 257; i++) seen[order[i]]++;
    for (int i = 0; i < 257; i++) CHECK_INT(seen[i], 1);
}

static void mark(void *arg, size_t index, int worker)
{
    int *hits = arg;
    hits[index] += 1 + 0 * worker;
}

/* More threads than processors: nobody spins, everybody sleeps and is woken. */
static void a_team_larger_than_the_machine_finishes(void)
{
    enum { ROUNDS = 300, COUNT = 97 };
    int threads = dscm_cpu_count() + 3;
    dscm_team *team = NULL;
    dscm_error err = {0};
    int hits[COUNT] = {0};
    REQUIRE(threads <= DSCM_TEAM_MAX && dscm_team_open(&team, threads, &err) == DSCM_OK);
    for (int round = 0; round < ROUNDS; round++) dscm_team_run(team, COUNT, mark, hits);
    for (int i = 0; i < COUNT; i++) CHECK_INT(hits[i], ROUNDS);
    dscm_team_free(team);
}

static void team_runs_each_index_once(void)
{
    for (int threads = 1; threads <= 5; threads++) {
        dscm_team *team = NULL;
        dscm_error err = {0};
        REQUIRE(dscm_team_open(&team, threads, &err) == DSCM_OK);
        static int hits[1000];
        memset(hits, 0, sizeof hits);
        for (int round = 0; round < 200; round++) dscm_team_run(team, 1000, mark, hits);
        for (int i = 0; i < 1000; i++) CHECK_INT(hits[i], 200);
        dscm_team_free(team);
    }
    dscm_team *team = NULL;
    dscm_error err = {0};
    CHECK_INT(dscm_team_open(&team, 0, &err), DSCM_E_INVALID);
    CHECK_HAS(err.message, "threads: 0");
}

static void arena_hands_out_aligned_blocks(void)
{
    dscm_arena arena;
    dscm_error err = {0};
    REQUIRE(dscm_arena_open(&arena, 4096, &err) == DSCM_OK);
    char *a = dscm_arena_take(&arena, 1), *b = dscm_arena_take(&arena, 65);
    CHECK_INT((uintptr_t)a % 64, 0);
    CHECK_INT(b - a, 64);
    CHECK_INT(arena.used, 64 + 128);
    dscm_arena_close(&arena);
    dscm_arena_close(&arena);
}

static void cpu_is_described(void)
{
    CHECK(dscm_cpu_count() >= 1);
    CHECK_STR(dscm_isa_name(DSCM_ISA_AVX2), "avx2");
    CHECK(dscm_cpu_best_isa() < DSCM_ISA_COUNT);
}

/* ---- limits of a container ---- */
static void write_text(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    REQUIRE(f != NULL);
    fputs(text, f);
    fclose(f);
}

static int quota_in(const char *folder, const char *membership)
{
    char path[512];
    write_text(folder, "self", membership);
    snprintf(path, sizeof path, "%s/self", folder);
    return dscm_cpu_quota(path, folder);
}

static void quotas_of_groups_bind(void)
{
    char folder[] = "/tmp/diffscm-cgroup-XXXXXX", path[512];
    static const char *const folders[] = {"/a", "/a/b", "/cpu", "/cpu/c"};
    static const char *const files[] = {"/a/cpu.max",
                                        "/a/b/cpu.max",
                                        "/cpu.max",
                                        "/cpu/c/cpu.cfs_quota_us",
                                        "/self",
                                        "/cpu/c/cpu.cfs_period_us",
                                        "/cpu/cpu.cfs_quota_us"};
    REQUIRE(mkdtemp(folder) != NULL);
    for (size_t i = 0; i < TEST_COUNT(folders); i++) {
        snprintf(path, sizeof path, "%s%s", folder, folders[i]);
        CHECK(mkdir(path, 0700) == 0);
    }
    CHECK_INT(dscm_cpu_quota("/nonexistent/self", folder), 0);
    CHECK_INT(quota_in(folder, "0::/a/b\n"), 0); /* no files: no limit */
    write_text(folder, "a/b/cpu.max", "max 100000\n");
    CHECK_INT(quota_in(folder, "0::/a/b\n"), 0);
    write_text(folder, "a/cpu.max", "250000 100000\n"); /* the parent's limit, rounded up */
    CHECK_INT(quota_in(folder, "0::/a/b\n"), 3);
    write_text(folder, "a/b/cpu.max", "50000 100000\n");
    CHECK_INT(quota_in(folder, "0::/a/b\n"), 1);
    write_text(folder, "cpu.max", "400000 100000\n"); /* the path is another namespace's */
    CHECK_INT(quota_in(folder, "0::/elsewhere/x\n"), 4);
    write_text(folder, "cpu/c/cpu.cfs_quota_us", "200000\n");
    write_text(folder, "cpu/c/cpu.cfs_period_us", "100000\n");
    CHECK_INT(quota_in(folder, "7:cpuset:/c\n4:cpuacct,cpu:/c\n"), 2);
    write_text(folder, "cpu/cpu.cfs_quota_us", "-1\n");
    CHECK_INT(quota_in(folder, "4:cpu:/\n"), 0);
    for (size_t i = 0; i < TEST_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s%s", folder, files[i]);
        unlink(path);
    }
    for (size_t i = TEST_COUNT(folders); i-- > 0;) {
        snprintf(path, sizeof path, "%s%s", folder, folders[i]);
        rmdir(path);
    }
    CHECK(rmdir(folder) == 0);
}

static void affinity_limits_the_threads(void)
{
    cpu_set_t all, one;
    REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    CHECK_INT(dscm_cpu_count(), 1);
    CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
    CHECK(dscm_cpu_count() <= CPU_COUNT(&all));
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"first_error_wins", first_error_wins},
        {"sizes_are_checked", sizes_are_checked},
        {"philox_known_answers", philox_known_answers},
        {"normal_moments", normal_moments},
        {"permutation_is_complete", permutation_is_complete},
        {"team_runs_each_index_once", team_runs_each_index_once},
        {"a_team_larger_than_the_machine_finishes", a_team_larger_than_the_machine_finishes},
        {"arena_hands_out_aligned_blocks", arena_hands_out_aligned_blocks},
        {"cpu_is_described", cpu_is_described},
        {"quotas_of_groups_bind", quotas_of_groups_bind},
        {"affinity_limits_the_threads", affinity_limits_the_threads},
    };
    return test_main(argc, argv, cases, TEST_COUNT(cases));
}
