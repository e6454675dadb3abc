/* diffscm train as a program: killed at any moment it goes on exactly; asked to stop it saves. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/data/idx.h"
#include "core/io/file.h"
#include "tests/harness.h"

static char program[512], dir[64];

enum { IMAGES = 200, SIDE = 12 };

static void write_data(void)
{
    static uint8_t pixels[IMAGES * SIDE * SIDE], labels[IMAGES];
    char path[128];
    dscm_error err = {0};
    dscm_rng rng = dscm_rng_make(4, 0);
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)dscm_rng_below(&rng, 256);
    for (size_t i = 0; i < IMAGES; i++) labels[i] = (uint8_t)(i % 2);
    dscm_idx images = {
        .dims = {IMAGES, SIDE, SIDE}, .ndim = 3, .count = sizeof pixels, .data = pixels};
    dscm_idx classes = {.dims = {IMAGES}, .ndim = 1, .count = IMAGES, .data = labels};
    snprintf(path, sizeof path, "%s/train-images-idx3-ubyte", dir);
    CHECK(dscm_idx_write(&images, path, &err) == DSCM_OK);
    snprintf(path, sizeof path, "%s/train-labels-idx1-ubyte", dir);
    CHECK(dscm_idx_write(&classes, path, &err) == DSCM_OK);
}

/* Starts a run of `samples`; its files are DIR/name.st, .ck, .csv, its messages DIR/name.err. */
static pid_t start(const char *name, const char *samples, const char *more, const char *value)
{
    char out[128], checkpoint[128], log[128], messages[128];
    snprintf(out, sizeof out, "%s/%s.st", dir, name);
    snprintf(checkpoint, sizeof checkpoint, "%s/%s.ck", dir, name);
    snprintf(log, sizeof log, "%s/%s.csv", dir, name);
    snprintf(messages, sizeof messages, "%s/%s.err", dir, name);
    pid_t child = fork();
    if (child) return child;
    int fd = open(messages, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0) dup2(fd, STDERR_FILENO);
    execl(program, "diffscm", "train", "autoencoder", "--data", dir, "--out", out, "--checkpoint",
          checkpoint, "--checkpoint-every", "0", "--log", log, "--samples", samples, "--batch",
          "20", "--threads", "2", "--dtype", "f32", "--warmup", "2", more, value, (char *)NULL);
    _exit(127);
}

static int finish(pid_t child)
{
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void pause_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static bool appears(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (int i = 0; i < 3000; i++) {
        if (access(path, F_OK) == 0) return true;
        pause_ms(10);
    }
    return false;
}

static unsigned char *content(const char *name, size_t *size)
{
    char path[128];
    unsigned char *bytes = NULL;
    dscm_error err = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (dscm_file_read(path, 1 << 26, &bytes, size, &err) != DSCM_OK) TEST_FAIL_("%s", err.message);
    return bytes;
}

static void same_files(const char *a, const char *b)
{
    size_t size_a = 0, size_b = 0;
    unsigned char *x = content(a, &size_a), *y = content(b, &size_b);
    REQUIRE(x && y);
    CHECK_INT(size_a, size_b);
    CHECK(size_a == size_b && memcmp(x, y, size_a) == 0);
    dscm_free(x);
    dscm_free(y);
}

static void killed_runs_go_on_exactly(void)
{
    CHECK_INT(finish(start("whole", "3000", "--seed", "3")), 0);
    pid_t child = start("killed", "3000", "--seed", "3");
    REQUIRE(appears("killed.ck"));
    for (int i = 0; i < 4; i++) { /* four more times, at moments that drift against the writing */
        pause_ms(7 + 13 * i);
        kill(child, SIGKILL);
        int code = finish(child);
        CHECK(code == 128 + SIGKILL || code == 0);
        child = start("killed", "3000", "--seed", "3");
    }
    CHECK_INT(finish(child), 0);
    same_files("whole.st", "killed.st");
}

static void message_has(const char *name, const char *part)
{
    char file[64];
    size_t size = 0;
    snprintf(file, sizeof file, "%s.err", name);
    char *text = (char *)content(file, &size);
    REQUIRE(text);
    CHECK_HAS(text, part);
    dscm_free(text);
}

static void asked_to_stop_it_saves(void)
{
    pid_t child = start("asked", "100000000", "--seed", "3");
    REQUIRE(appears("asked.ck"));
    kill(child, SIGINT);
    CHECK_INT(finish(child), 130);
    char path[128];
    snprintf(path, sizeof path, "%s/asked.st", dir);
    CHECK(access(path, F_OK) != 0); /* half-trained weights would look like finished ones */
    message_has("asked", "stopped by a signal");
    message_has("asked", "asked.ck");
    child = start("asked", "100000000", "--time-limit", "0.05");
    CHECK_INT(finish(child), 1); /* another seed than the checkpoint's */
    message_has("asked", "checkpoint of other settings");
    child = start("limited", "100000000", "--time-limit", "0.2");
    CHECK_INT(finish(child), 0); /* who sets a limit wants the weights of that moment */
    CHECK(appears("limited.st"));
}

/* Ends where it is told, and goes on, also under another number of samples. */
static void parts_of_a_run_make_the_whole(void)
{
    char path[128];
    CHECK_INT(finish(start("one", "3000", "--seed", "1")), 0);
    CHECK_INT(finish(start("parts", "3000", "--until", "1000")), 0);
    CHECK_INT(finish(start("parts", "3000", "--until", "1000")), 0); /* is there already */
    snprintf(path, sizeof path, "%s/parts.st", dir);
    CHECK(access(path, F_OK) != 0);
    CHECK_INT(finish(start("parts", "3000", "--until", "2010")), 0); /* to the end of its step */
    CHECK_INT(finish(start("parts", "3000", "--seed", "1")), 0);
    same_files("one.st", "parts.st");
    CHECK_INT(finish(start("less", "3000", "--until", "1000")), 0);
    CHECK_INT(finish(start("less", "2000", "--seed", "1")), 0);
    CHECK(appears("less.st"));
    message_has("less", "going on at 1000 of 2000 samples");
}

static void the_log_is_a_table(void)
{
    CHECK_INT(finish(start("log", "1000", "--seed", "3")), 0);
    size_t size = 0;
    char *text = (char *)content("log.csv", &size);
    REQUIRE(text);
    CHECK_HAS(text, "step,samples,loss,rate,norm,samples_per_second,seconds\n25,500,");
    CHECK_HAS(text, "\n50,1000,");
    dscm_free(text);
}

int main(int argc, char **argv)
{
    static const test_case cases[] = {
        {"killed_runs_go_on_exactly", killed_runs_go_on_exactly},
        {"asked_to_stop_it_saves", asked_to_stop_it_saves},
        {"parts_of_a_run_make_the_whole", parts_of_a_run_make_the_whole},
        {"the_log_is_a_table", the_log_is_a_table}};
    /* build/BUILD/tests/cli/test_train: the program lies two folders up */
    const char *slash = strrchr(argv[0], '/');
    snprintf(program, sizeof program, "%.*s/../../diffscm", slash ? (int)(slash - argv[0]) : 1,
             slash ? argv[0] : ".");
    if (access(program, X_OK) != 0) {
        printf("%s is not there: build it first (make all)\n", program);
        return 1;
    }
    strcpy(dir, "/tmp/dscm-train-XXXXXX");
    if (!mkdtemp(dir)) return 1;
    write_data();
    int failed = test_main(argc, argv, cases, TEST_COUNT(cases));
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) != 0 || failed;
}
