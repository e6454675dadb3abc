/* This program in a child process, which ends with its parent. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/new_job.h"

static volatile sig_atomic_t child, stopped;
static bool child_failed;

bool new_child_failed(void)
{
    return child_failed;
}

static void pass_on(int number)
{
    stopped = 1;
    if (child > 0) kill((pid_t)child, number);
}

void new_listen(void)
{
    struct sigaction action = {.sa_handler = pass_on};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void new_add(new_arguments *a, const char *format, ...)
{
    va_list list;
    if (a->count == NEW_ARGS_MAX) return;
    va_start(list, format);
    vsnprintf(a->text[a->count], sizeof a->text[0], format, list);
    va_end(list);
    a->items[a->count] = a->text[a->count];
    a->items[++a->count] = NULL;
}

new_arguments *new_begin(const char *command)
{
    static new_arguments a;
    a.count = 0;
    new_add(&a, "diffscm");
    new_add(&a, "%s", command);
    return &a;
}

/* The child: this program with other words. */
static void become(new_arguments *a, const char *results, pid_t parent)
{
    int fd = open(results ? results : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0666);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || fd < 0 || dup2(fd, STDOUT_FILENO) < 0) _exit(EXIT_FAILED);
    execv("/proc/self/exe", a->items);
    _exit(EXIT_FAILED);
}

dscm_code new_run_command(new_arguments *a, const char *results, dscm_error *err)
{
    pid_t parent = getpid(), pid;
    int status = 0;
    fflush(NULL);
    if (stopped) return dscm_fail(err, DSCM_E_CANCELED, "the same command goes on");
    pid = fork();
    if (pid < 0) return dscm_fail(err, DSCM_E_IO, "no process can be made: %s", strerror(errno));
    if (!pid) become(a, results, parent);
    child = pid;
    if (stopped) kill(pid, SIGTERM); /* came before the child was known */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    child = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DONE) return DSCM_OK;
    if (stopped || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STOPPED))
        return dscm_fail(err, DSCM_E_CANCELED, "the same command goes on");
    if (WIFSIGNALED(status))
        return dscm_fail(err, DSCM_E_IO, "%s ended by signal %d; the same command goes on",
                         a->items[1], WTERMSIG(status));
    child_failed = true;
    return dscm_fail(err, DSCM_E_IO, "%s failed, see above", a->items[1]);
}
