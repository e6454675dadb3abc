/* diffscm serve: the service in the foreground until SIGTERM or SIGINT. A second one stops at once;
 * SIGHUP reads the keys file again. --check asks a running service for its health. diffscm work is
 * the same without the public listener: it runs jobs that others accept into a shared store. */
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "server/service.h"

/* Whether standard output took everything: the disk may be full. */
static int written(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return EXIT_DONE;
    dscm_error err = {0};
    (void)dscm_fail(&err, DSCM_E_IO, "cannot write to standard output: %s", strerror(errno));
    return cli_fail("serve", &err);
}

/* Of `serve` or `work`. */
static int help(const char *name)
{
    char usage[32];
    snprintf(usage, sizeof usage, "%s [options]", name);
    cli_help_begin(name, usage);
    cli_help_option("config", "FILE", "the file of options; also DIFFSCM_CONFIG");
    cli_help_option("print-config", NULL, "print the configuration in force and end");
    cli_help_option("document-config", NULL, "print the table of all options in Markdown and end");
    cli_help_option("check", NULL, "ask a running service whether it is ready; exit 0 if so");
    for (size_t i = 0; dscm_setting_at(i); i++) {
        const dscm_setting *s = dscm_setting_at(i);
        const char *kinds[] = {[DSCM_SETTING_STRING] = "TEXT", [DSCM_SETTING_INTEGER] = "N"};
        char text[256];
        snprintf(text, sizeof text, *s->value ? "%s (%s)" : "%s", s->help, s->value);
        cli_help_option(s->name, s->type == DSCM_SETTING_FLAG ? NULL : kinds[s->type], text);
    }
    return written();
}

/* Takes the flag out of argv; true when it was there. */
static bool take_flag(int *argc, char **argv, const char *flag)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], flag) != 0) continue;
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i - 1) * sizeof argv[0]);
        --*argc;
        return true;
    }
    return false;
}

/* Connects to the admin listener; -1 when nobody is there. */
static int connect_admin(const dscm_settings *settings)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    char port[8];
    const char *host = settings->admin_host;
    if (strcmp(host, "0.0.0.0") == 0) host = "127.0.0.1";
    if (strcmp(host, "::") == 0) host = "::1";
    snprintf(port, sizeof port, "%ld", settings->admin_port);
    if (getaddrinfo(host, port, &hints, &list) != 0) return -1;
    int fd = -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        struct timeval limit = {5, 0};
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
        if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    return fd;
}

/* The container's health check, so that the image needs no other program for it. */
static int check(const dscm_settings *settings)
{
    static const char request[] =
        "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char reply[512] = "";
    int fd = connect_admin(settings);
    bool sent = fd >= 0 &&
                send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t)sizeof request - 1;
    ssize_t got = sent ? recv(fd, reply, sizeof reply - 1, MSG_WAITALL) : -1;
    if (fd >= 0) close(fd);
    if (got > 0 && strncmp(reply, "HTTP/1.1 200", 12) == 0) return EXIT_DONE;
    const char *body = got > 0 ? strstr(reply, "\r\n\r\n") : NULL;
    fprintf(stderr, "diffscm serve: not ready: %s\n",
            body ? body + 4 : "nobody answers on the admin port");
    return EXIT_FAILED;
}

/* Fills in the folders that the settings leave open. The page may be missing: the service works
 * without it. */
static dscm_code find_folders(dscm_settings *settings, dscm_error *err)
{
    char found[DSCM_SETTING_TEXT];
    const char *given = settings->data_dir[0] ? settings->data_dir : NULL;
    if (!settings->static_dir[0] &&
        cli_find(found, sizeof found, "static", NULL, given, NULL) == DSCM_OK)
        memcpy(settings->static_dir, found, sizeof found);
    bool by_path = settings->models[0] && strchr(settings->models, '/');
    if (given || by_path) return DSCM_OK;
    dscm_code code = cli_find(found, sizeof found, "models", NULL, NULL, err);
    if (code != DSCM_OK) return code;
    char *slash = strrchr(found, '/'); /* the folder that holds models/ */
    if (slash && slash != found)
        *slash = 0;
    else
        strcpy(found, slash ? "/" : ".");
    memcpy(settings->data_dir, found, sizeof found);
    return DSCM_OK;
}

/* Waits for the second signal while the first one's stop is under way. */
static void *second_signal(void *arg)
{
    int number;
    do
        if (sigwait(arg, &number) != 0) return NULL;
    while (number == SIGHUP);
    _exit(EXIT_FAILED); /* asked twice: no time for tidying up */
}

static int run(const dscm_settings *settings)
{
    dscm_error err = {0};
    dscm_service *service;
    sigset_t signals;
    pthread_t second;
    int number = 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    /* Before any thread starts, so that all inherit it and only sigwait sees them. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (dscm_service_open(&service, settings, NULL, NULL, &err) != DSCM_OK)
        return cli_fail("serve", &err);
    if (isatty(STDOUT_FILENO)) puts("Stop with Ctrl-C.");
    if (dscm_service_port(service))
        printf("diffscm serves http://%s:%d/\n", settings->host, dscm_service_port(service));
    else
        printf("diffscm works for %s\n", settings->store);
    fflush(stdout);
    while (sigwait(&signals, &number) == 0 && number == SIGHUP) dscm_service_reload(service);
    if (pthread_create(&second, NULL, second_signal, &signals) == 0) pthread_detach(second);
    dscm_service_stop(service);
    return EXIT_DONE;
}

int cmd_serve(int argc, char **argv)
{
    dscm_error err = {0};
    dscm_settings settings;
    if (take_flag(&argc, argv, "--help") || take_flag(&argc, argv, "-h")) return help(argv[0]);
    bool print = take_flag(&argc, argv, "--print-config");
    bool probe = take_flag(&argc, argv, "--check");
    if (take_flag(&argc, argv, "--document-config")) {
        dscm_settings_document(stdout);
        return written();
    }
    if (dscm_settings_load(&settings, argc - 1, argv + 1, environ, &err) != DSCM_OK)
        return cli_usage(argv[0], "%s", err.message);
    if (probe) return check(&settings);
    if (print) {
        dscm_settings_print(&settings, stdout);
        return written();
    }
    if (find_folders(&settings, &err) != DSCM_OK) return cli_fail(argv[0], &err);
    return run(&settings);
}

/* The same program with --role work, which no other source may change. */
int cmd_work(int argc, char **argv)
{
    enum { ARGS_MAX = 256 };
    char *args[ARGS_MAX + 3];
    if (argc > ARGS_MAX) return cli_usage("work", "more than %d arguments", ARGS_MAX);
    memcpy(args, argv, (size_t)argc * sizeof *args);
    args[argc] = "--role";
    args[argc + 1] = "work";
    args[argc + 2] = NULL;
    return cmd_serve(argc + 2, args);
}
