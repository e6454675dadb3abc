"""Throughput with a shared store beside memory, at equal workers: python3 tests/load/paired.py TEST_HTTP [SECONDS [ROUNDS]]

TEST_HTTP is build/release/tests/http/test_http, whose jobs sleep for 200 to 400 ms. Each round runs memory and Redis with one
worker and with two, one after the other in an order of its own; what counts is the ratio within a round, so that
other work on the machine falls on all of them alike. With two workers, Redis is taken both ways: one process, and
two processes that only work. Prints medians over the rounds, and fails below 95 %."""
import contextlib, http.client, os, random, statistics, sys, threading, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "http"))
import lib
from lib import Redis, Server, picture

lib.PROGRAM = os.path.abspath(sys.argv[1])
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 10
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 7
FLAGS = ["--queue-capacity", "200", "--client-share", "100", "--client-cost", "0", "--batch", "1"]
CLIENTS = 8


def throughput(server):
    """Jobs per second, each waited for, after a second to settle."""
    begin = time.monotonic() + 1
    end, ended = begin + SECONDS, []

    def work(index):
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for i in range(10 ** 9):
            c.request("POST", f"/counterfactual?do.digit=8&seed={index * 10 ** 6 + i}&sampler=obelm&steps=20",
                      picture(i % 200), {"Content-Type": "image/png", "Prefer": "wait=60"})
            r = c.getresponse()
            r.read()
            now = time.monotonic()
            assert r.status == 200, r.status
            if now > end:
                break
            if now > begin:
                ended.append(now)
        c.close()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(CLIENTS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return len(ended) / SECONDS


def measure(kind, workers, redis):
    with contextlib.ExitStack() as stack:
        store = ["--store", "memory" if kind == "memory" else redis.url()]
        if kind != "apart":
            server = Server("--workers", str(workers), *store, *FLAGS, step_ms=10)
            return throughput(stack.enter_context(server))
        for _ in range(workers):
            stack.enter_context(Server("--role", "work", "--workers", "1", *store, *FLAGS, step_ms=10))
        return throughput(stack.enter_context(Server("--role", "api", *store, *FLAGS)))


def main():
    cases = [("memory", 1), ("memory", 2), ("redis", 1), ("redis", 2), ("apart", 2)]
    rates = {case: [] for case in cases}
    with Redis() as redis:
        for round in range(ROUNDS):
            order = list(cases)
            random.Random(round).shuffle(order)
            for kind, workers in order:
                rates[kind, workers].append(measure(kind, workers, redis))
    median = {case: statistics.median(r) for case, r in rates.items()}

    def ratio(a, b):
        return statistics.median(x / y for x, y in zip(rates[a], rates[b]))
    gain = statistics.median((r2 / r1) / (m2 / m1) for r1, r2, m1, m2 in zip(
        rates["redis", 1], rates["redis", 2], rates["memory", 1], rates["memory", 2]))
    shares = {"one worker": ratio(("redis", 1), ("memory", 1)), "two workers": ratio(("redis", 2), ("memory", 2)),
              "two processes": ratio(("apart", 2), ("memory", 2)), "gain of the second worker": gain}
    print(f"paired: {ROUNDS} rounds of {SECONDS:.0f} s, jobs of 200 to 400 ms; per second " +
          ", ".join(f"{kind} {workers}: {rate:.2f}" for (kind, workers), rate in median.items()) +
          "; of memory, within rounds: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()) +
          f"; load average {os.getloadavg()[0]:.1f}", flush=True)
    low = [name for name, share in shares.items() if share < .95]
    for name in low:
        print("  BROKEN: below 95 % of memory: " + name, flush=True)
    return bool(low)


if __name__ == "__main__":
    sys.exit(main())
