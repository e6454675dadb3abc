#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/base/clock.h"

#define FIRST_SECONDS 1.0 /* until something is shown */

double cli_seconds(void)
{
    return dscm_clock_s();
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

/* Seconds left: as somebody else estimates, else by the rate so far. */
static double seconds_left(const cli_progress *p, double elapsed)
{
    double left = p->left > 0 ? p->left : elapsed * (p->total - p->done) / p->done;
    double allowed = p->limit - elapsed;
    if (p->limit > 0 && left > allowed) left = allowed;
    return left > 0 ? left : 0;
}

static void print_line(const cli_progress *p, double elapsed, bool last, const char *note)
{
    enum { WIDTH = 24 };
    double rate = p->done / (elapsed + 1e-9);
    bool percent = p->unit[0] == '%';
    if (p->terminal) {
        int filled = p->total > 0 ? (int)(WIDTH * p->done / p->total) : 0;
        fprintf(stderr, "\r\033[K%s [", p->label);
        for (int i = 0; i < WIDTH; i++) fputc(i < filled ? '#' : '.', stderr);
        fprintf(stderr, "] ");
    } else {
        fprintf(stderr, "%s: ", p->label);
    }
    fprintf(stderr, "%.0f", p->done);
    if (p->total > 0 && !percent) fprintf(stderr, "/%.0f", p->total);
    fprintf(stderr, " %s", p->unit);
    if (!percent && p->done > 0)
        fprintf(stderr, rate >= 1 ? ", %.1f/s" : ", %.1f s each", rate >= 1 ? rate : 1 / rate);
    if (p->total > 0 && p->done > 0 && !last) {
        fprintf(stderr, ", ");
        print_time(seconds_left(p, elapsed));
        fprintf(stderr, " left");
    }
    fprintf(stderr, "%s%s", note && *note ? ", " : "", note ? note : "");
    if (!p->terminal) fputc('\n', stderr);
}

void cli_progress_show(cli_progress *p, double done, const char *note)
{
    bool whole = p->total > 0 && done >= p->total;
    while (atomic_flag_test_and_set(&p->busy))
        if (!whole) return; /* another thread shows it just now; the last line is worth the wait */
    double now = cli_seconds();
    double pause = p->lines == 0 ? FIRST_SECONDS : p->terminal ? 0.2 : 10.0;
    if (done > p->done) p->done = done;
    bool last = p->total > 0 && p->done >= p->total;
    bool due = last ? p->lines || !p->quick : now - p->shown >= pause;
    if (due && !p->ended) {
        p->shown = now;
        p->ended = last;
        p->lines++;
        print_line(p, now - p->started, last, note);
    }
    atomic_flag_clear(&p->busy);
}

void cli_progress_end(cli_progress *p)
{
    if (p->terminal && p->lines) fputc('\n', stderr);
    p->lines = 0;
}
