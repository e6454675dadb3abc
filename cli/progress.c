#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"

double cli_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void cli_progress_start(cli_progress *p, const char *label, const char *unit, double total)
{
    *p = (cli_progress){.label = label, .unit = unit, .total = total, .started = cli_seconds()};
    p->shown = p->started;
    p->terminal = isatty(STDERR_FILENO);
}

static void print_time(double seconds)
{
    if (seconds >= 3600)
        fprintf(stderr, "%ld h %02ld min", (long)seconds / 3600, (long)seconds % 3600 / 60);
    else if (seconds >= 60)
        fprintf(stderr, "%ld min %02ld s", (long)seconds / 60, (long)seconds % 60);
    else
        fprintf(stderr, "%.0f s", seconds);
}

void cli_progress_show(cli_progress *p, double done, const char *note)
{
    enum { WIDTH = 24 };
    double now = cli_seconds(), rate = done / (now - p->started + 1e-9);
    bool last = p->total > 0 && done >= p->total;
    if (p->ended || (now - p->shown < (p->terminal ? 0.2 : 10.0) && !last)) return;
    p->shown = now;
    p->ended = last;
    if (p->terminal) {
        int filled = p->total > 0 ? (int)(WIDTH * done / p->total) : 0;
        fprintf(stderr, "\r\033[K%s [", p->label);
        for (int i = 0; i < WIDTH; i++) fputc(i < filled ? '#' : '.', stderr);
        fprintf(stderr, "] ");
    } else {
        fprintf(stderr, "%s: ", p->label);
    }
    fprintf(stderr, "%.0f", done);
    if (p->total > 0) fprintf(stderr, "/%.0f", p->total);
    if (rate >= 1)
        fprintf(stderr, " %s, %.1f/s", p->unit, rate);
    else
        fprintf(stderr, " %s, %.1f s each", p->unit, 1 / rate);
    if (p->total > 0 && done > 0 && !last) {
        fprintf(stderr, ", ");
        double left = (p->total - done) / rate, allowed = p->limit - (now - p->started);
        print_time(p->limit > 0 && left > allowed ? (allowed > 0 ? allowed : 0) : left);
        fprintf(stderr, " left");
    }
    fprintf(stderr, "%s%s", note && *note ? ", " : "", note ? note : "");
    if (!p->terminal) fputc('\n', stderr);
}

void cli_progress_end(cli_progress *p)
{
    if (p->terminal) fputc('\n', stderr);
}
