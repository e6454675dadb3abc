/* A load client that leaves the processors to the service: one thread, epoll, keep-alive.
 *
 * usage: storm PORT REQUESTS CLIENTS RATE SECONDS WARMUP
 *
 * REQUESTS is a file of ready-made HTTP requests, each after its length in four bytes (little
 * endian); they are sent in turn. RATE is requests per second in all, sent whether or not earlier
 * ones are answered, or 0: each of the CLIENTS sends its next one as soon as it is answered.
 * Figures leave the first WARMUP seconds out. Prints one JSON object: seconds, how often the rate
 * could not be kept for want of a free connection ("late"), connections lost, and per status count,
 * replies without Retry-After, p50, p99 and largest latency in milliseconds. Not a browser: replies
 * must have a Content-Length. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REPLY_MAX  (1 << 17)
#define STATUS_MAX 600

typedef struct client {
    int fd;
    bool busy;
    double sent_at;
    size_t got;
    char *reply; /* REPLY_MAX + 1 */
} client;

typedef struct tally {
    double *latency; /* ms */
    size_t count, room, without_retry;
} tally;

typedef struct storm {
    uint16_t port;
    char *requests;
    size_t *starts; /* (count+1) */
    size_t count, next;
    client *clients;
    size_t clients_count;
    int epoll;
    double begin, counted_from;
    size_t late, lost;
    tally by_status[STATUS_MAX];
} storm;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void read_requests(storm *s, const char *path)
{
    FILE *in = fopen(path, "rb");
    if (!in) die(path);
    fseek(in, 0, SEEK_END);
    size_t size = (size_t)ftell(in);
    rewind(in);
    s->requests = malloc(size + 1);
    s->starts = malloc((size / 4 + 2) * sizeof *s->starts);
    if (!s->requests || !s->starts || fread(s->requests, 1, size, in) != size) die(path);
    fclose(in);
    for (size_t at = 0; at + 4 <= size;) {
        uint32_t length;
        memcpy(&length, s->requests + at, 4);
        s->starts[s->count++] = at;
        at += 4 + length;
    }
    if (!s->count) die("no requests");
}

static void open_client(storm *s, client *c)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(s->port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, c->fd, &event) != 0) die("epoll_ctl");
    c->busy = false;
    c->got = 0;
}

static void reopen(storm *s, client *c)
{
    close(c->fd);
    open_client(s, c);
}

/* Requests are far smaller than a socket's buffer, so a blocking send does not wait. */
static void send_next(storm *s, client *c)
{
    const char *at = s->requests + s->starts[s->next++ % s->count];
    uint32_t length;
    memcpy(&length, at, 4);
    c->sent_at = now();
    c->busy = true;
    c->got = 0;
    if (send(c->fd, at + 4, length, MSG_NOSIGNAL) != (ssize_t)length) {
        s->lost++;
        reopen(s, c);
    }
}

static void count_reply(storm *s, const client *c, int status, bool retry)
{
    double t = now();
    if (t < s->counted_from || status < 0 || status >= STATUS_MAX) return;
    tally *to = &s->by_status[status];
    if (to->count == to->room) {
        to->room = to->room ? 2 * to->room : 1024;
        to->latency = realloc(to->latency, to->room * sizeof *to->latency);
        if (!to->latency) die("realloc");
    }
    to->latency[to->count++] = (t - c->sent_at) * 1e3;
    to->without_retry += !retry;
}

/* True when the reply is complete. */
static bool read_reply(storm *s, client *c)
{
    ssize_t n = recv(c->fd, c->reply + c->got, REPLY_MAX - c->got, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return false;
    if (n <= 0) {
        s->lost += c->busy;
        reopen(s, c);
        return true;
    }
    c->got += (size_t)n;
    c->reply[c->got] = 0;
    const char *end = strstr(c->reply, "\r\n\r\n");
    if (!end) return false;
    const char *length = strcasestr(c->reply, "\r\ncontent-length:");
    const char *retry = strcasestr(c->reply, "\r\nretry-after:");
    const char *closes = strcasestr(c->reply, "\r\nconnection: close");
    size_t head = (size_t)(end - c->reply) + 4;
    size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    if (head + body > REPLY_MAX) die("a reply is larger than the buffer");
    if (c->got < head + body) return false;
    count_reply(s, c, atoi(c->reply + 9), retry && retry < end);
    c->busy = false;
    if (closes && closes < end) reopen(s, c);
    return true;
}

static void run(storm *s, double rate, double seconds)
{
    struct epoll_event events[256];
    double stop = s->begin + seconds;
    size_t sent = 0, look = 0;
    for (size_t i = 0; rate <= 0 && i < s->clients_count; i++) send_next(s, &s->clients[i]);
    for (double t; (t = now()) < stop;) {
        size_t due = rate > 0 ? (size_t)((t - s->begin) * rate) : 0;
        for (; sent < due; sent++) {
            size_t tried = 0;
            while (tried < s->clients_count && s->clients[look % s->clients_count].busy)
                look++, tried++;
            if (tried == s->clients_count)
                s->late++;
            else
                send_next(s, &s->clients[look++ % s->clients_count]);
        }
        int n = epoll_wait(s->epoll, events, 256, rate > 0 ? 1 : 50);
        for (int i = 0; i < n; i++)
            if (read_reply(s, events[i].data.ptr) && rate <= 0) send_next(s, events[i].data.ptr);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(storm *s)
{
    bool first = true;
    printf("{\"seconds\": %.3f, \"late\": %zu, \"lost\": %zu, \"status\": {",
           now() - s->counted_from, s->late, s->lost);
    for (int i = 0; i < STATUS_MAX; i++) {
        tally *t = &s->by_status[i];
        if (!t->count) continue;
        qsort(t->latency, t->count, sizeof *t->latency, by_size);
        printf("%s\"%d\": {\"count\": %zu, \"without_retry_after\": %zu, \"p50\": %.2f, "
               "\"p99\": %.2f, \"max\": %.2f}",
               first ? "" : ", ", i, t->count, t->without_retry, t->latency[t->count / 2],
               t->latency[t->count * 99 / 100], t->latency[t->count - 1]);
        first = false;
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    static storm s;
    if (argc != 7) {
        fprintf(stderr, "usage: storm PORT REQUESTS CLIENTS RATE SECONDS WARMUP\n");
        return 2;
    }
    s.port = (uint16_t)atoi(argv[1]);
    read_requests(&s, argv[2]);
    s.clients_count = strtoul(argv[3], NULL, 10);
    s.clients = calloc(s.clients_count, sizeof *s.clients);
    s.epoll = epoll_create1(0);
    if (!s.clients || s.epoll < 0) die("start");
    for (size_t i = 0; i < s.clients_count; i++) {
        s.clients[i].reply = malloc(REPLY_MAX + 1);
        if (!s.clients[i].reply) die("start");
        open_client(&s, &s.clients[i]);
    }
    s.begin = now();
    s.counted_from = s.begin + atof(argv[6]);
    run(&s, atof(argv[4]), atof(argv[5]));
    report(&s);
    return 0;
}
