/* Drives the service over loopback with the scripts of tests/http. "--serve [flags]" makes this
 * program the server itself, on a fake engine whose jobs take as long as a test wants; without
 * arguments it runs the scripts against itself. Any other arguments go to the scripts. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/service.h"
#include "tests/http/fake_engine.h"

static int serve(int argc, char **argv)
{
    dscm_error err = {0};
    dscm_settings settings;
    dscm_service *service;
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (dscm_settings_load(&settings, argc, argv, environ, &err) != DSCM_OK ||
        dscm_service_open(&service, &settings, &fake_engine_calls, &fake_catalogue, &err) !=
            DSCM_OK) {
        fprintf(stderr, "serve: %s\n", err.message);
        return 1;
    }
    while (sigwait(&set, &number) == 0 && number == SIGHUP) dscm_service_reload(service);
    dscm_service_stop(service);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--serve") == 0) return serve(argc - 2, argv + 2);
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) return 1;
    self[length] = 0;
    char *args[64] = {"python3", "tests/http/run.py", self};
    for (int i = 1; i < argc && i < 60; i++) args[i + 2] = argv[i];
    execvp(args[0], args);
    printf("test_http                    0 passed, 0 failed, 1 skipped\n");
    return 0;
}
