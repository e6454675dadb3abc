#include "cli/chart.h"

#include <math.h>

enum { WIDTH = 860, HEIGHT = 340, LEFT = 60, RIGHT = 20, TOP = 44, BOTTOM = 76, SIDE = 420 };

static const char *const colours[] = {"#0072b2", "#e69f00", "#009e73", "#9400d3",
                                      "#56b4e9", "#e51e10", "#8c6d1f", "#555555"};

static void put(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '>' || *text == '&')
            fputs(*text == '<' ? "&lt;" : *text == '>' ? "&gt;" : "&amp;", f);
        else
            fputc(*text, f);
    }
}

static void head(FILE *f, int width, int height, const char *title)
{
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
            "height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n<title>",
            width, height, width, height);
    put(f, title);
    fprintf(f,
            "</title>\n<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n"
            "<text x=\"%d\" y=\"22\" font-size=\"15\" text-anchor=\"middle\">",
            width, height, width / 2);
    put(f, title);
    fputs("</text>\n", f);
}

static void label(FILE *f, double x, double y, const char *anchor, const char *text)
{
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    put(f, text);
    fputs("</text>\n", f);
}

static void line(FILE *f, double x0, double y0, double x1, double y1, const char *colour)
{
    fprintf(f, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x0, y0,
            x1, y1, colour);
}

/* 1, 2 or 5 times a power of ten: of `range` there are 4 to 10 in it. */
static double tick_step(double range)
{
    double power = pow(10, floor(log10(range / 4))), share = range / 4 / power;
    return power * (share >= 5 ? 5 : share >= 2 ? 2 : 1);
}

void chart_write_bars(FILE *f, const chart_bars *c)
{
    double most = 0, wide = WIDTH - LEFT - RIGHT, high = HEIGHT - TOP - BOTTOM;
    size_t cells = c->groups_count * c->series_count;
    for (size_t i = 0; i < cells; i++)
        if (c->values[i] > most) most = c->values[i];
    if (most <= 0) most = 1;
    double step = tick_step(most), top = most * 1.08, base = TOP + high;
    head(f, WIDTH, HEIGHT, c->title);
    for (double v = 0; v <= top; v += step) {
        char text[32];
        double y = base - v / top * high;
        snprintf(text, sizeof text, "%g", v);
        line(f, LEFT, y, WIDTH - RIGHT, y, "#dddddd");
        label(f, LEFT - 6, y + 4, "end", text);
    }
    double group = wide / (double)c->groups_count, bar = 0.84 * group / (double)c->series_count;
    for (size_t i = 0; i < cells; i++) {
        size_t g = i / c->series_count, s = i % c->series_count;
        double v = c->values[i];
        double x = LEFT + group * ((double)g + 0.08) + bar * (double)s, h = v / top * high;
        if (s == 0) label(f, LEFT + group * ((double)g + 0.5), base + 18, "middle", c->groups[g]);
        if (!isfinite(v)) continue;
        fprintf(f,
                "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n"
                "<text x=\"%.1f\" y=\"%.1f\" font-size=\"9\" text-anchor=\"middle\">%.*f</text>\n",
                x, base - h, bar * 0.94, h, colours[s % 8], x + bar * 0.47, base - h - 3, c->digits,
                v);
    }
    line(f, LEFT, base, WIDTH - RIGHT, base, "#666666");
    for (size_t s = 0; s < c->series_count; s++) { /* four names per row */
        double x = LEFT + wide / 4 * (double)(s % 4), y = base + 34 + 18 * (double)(s / 4);
        fprintf(f, "<rect x=\"%.1f\" y=\"%.1f\" width=\"11\" height=\"11\" fill=\"%s\"/>\n", x, y,
                colours[s % 8]);
        label(f, x + 16, y + 10, "start", c->series[s]);
    }
    fputs("</svg>\n", f);
}

void chart_write_points(FILE *f, const chart_points *c)
{
    double low = INFINITY, high = -INFINITY, side = SIDE - LEFT - RIGHT;
    for (size_t i = 0; i < c->count; i++) {
        if (!isfinite(c->x[i]) || !isfinite(c->y[i])) continue;
        low = fmin(low, fmin(c->x[i], c->y[i]));
        high = fmax(high, fmax(c->x[i], c->y[i]));
    }
    if (!(high > low)) high = (low = isfinite(low) ? low : 0) + 1;
    double margin = 0.03 * (high - low), scale = side / (high - low + 2 * margin);
    double base = TOP + side, zero = low - margin, step = tick_step(high - low);
    head(f, SIDE, SIDE + 40, c->title);
    for (double v = ceil(zero / step) * step; v <= high + margin; v += step) {
        char text[32];
        double at = (v - zero) * scale;
        snprintf(text, sizeof text, "%g", fabs(v) < step * 1e-9 ? 0 : v);
        line(f, LEFT, base - at, LEFT + side, base - at, "#eeeeee");
        line(f, LEFT + at, TOP, LEFT + at, base, "#eeeeee");
        label(f, LEFT - 6, base - at + 4, "end", text);
        label(f, LEFT + at, base + 16, "middle", text);
    }
    line(f, LEFT, base, LEFT + side, TOP, "#666666");
    for (size_t i = 0; i < c->count; i++)
        if (isfinite(c->x[i]) && isfinite(c->y[i]))
            fprintf(f,
                    "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\" fill=\"#0072b2\" "
                    "fill-opacity=\".5\"/>\n",
                    LEFT + (c->x[i] - zero) * scale, base - (c->y[i] - zero) * scale);
    label(f, LEFT + side / 2, base + 36, "middle", c->across);
    fprintf(f,
            "<text x=\"14\" y=\"%.1f\" text-anchor=\"middle\" transform=\"rotate(-90 14 %.1f)\">",
            TOP + side / 2, TOP + side / 2);
    put(f, c->up);
    fputs("</text>\n</svg>\n", f);
}
