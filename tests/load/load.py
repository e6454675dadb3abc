"""Load and abuse of the service: python3 tests/load/load.py build/diffscm [CASE…]

Cases: saturation, compare, overload, aborts, sigterm. Each prints one line of figures, and fails (exit 1)
when a promise of docs/operations.md is broken. Needs models/ beside the program; not part of
`make test`, since it takes minutes and wants a quiet machine."""
import os, random, selectors, signal, socket, struct, subprocess, sys, tempfile, threading, time, zlib

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "http"))
import lib
from lib import Server, picture

PROGRAM = os.path.abspath(sys.argv[1])
FAILED = []


def started(*flags, expect=0):
    # With the fake engine (test_http) jobs sleep: that shows the transport beside other load.
    command = [PROGRAM, "--serve" if PROGRAM.endswith("test_http") else "serve"]
    return Server(*flags, program=command, expect=expect)


def promise(ok, text):
    if not ok:
        FAILED.append(text)
        print("  BROKEN: " + text, flush=True)


def request(seed, extra=b"", digit=None):
    body = pictures[seed % len(pictures)]
    digit = seed % 10 if digit is None else digit
    return (b"POST /counterfactual?do.digit=%d&seed=%d HTTP/1.1\r\nHost: x\r\n%s"
            b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n"
            % (digit, seed, extra, len(body)) + body)


def samples(s, count):
    """Pictures of digits to work on, drawn from the model itself: each another image."""
    out = []
    for i in range(count):
        r = s.call("POST", f"/samples?do.digit={i % 10}&seed={i}", None,
                   {"Accept": "image/png", "Content-Length": "0"})
        assert r.status == 200, r.body
        out.append(r.body)
    return out


class Connection:
    """One client: sends a request, reads the reply, sends the next."""

    def __init__(self, port, make, selector, stop_at):
        self.port, self.make, self.selector, self.stop_at = port, make, selector, stop_at
        self.socket, self.out, self.left = None, b"", 0
        self.results = []  # (status, seconds, has Retry-After)
        self.not_before = 0

    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port))
        self.socket.setblocking(False)
        self.selector.register(self.socket, selectors.EVENT_READ, self)

    def send(self):
        data = self.make()
        self.start = time.time()
        self.buffer = b""
        self.socket.setblocking(True)
        self.socket.sendall(data)
        self.socket.setblocking(False)

    def readable(self):
        try:
            got = self.socket.recv(1 << 16)
        except BlockingIOError:
            return False
        except OSError:
            got = b""
        if not got:
            self.selector.unregister(self.socket)
            self.socket.close()
            self.results.append((0, time.time() - self.start, False))
            self.open()
            return True
        self.buffer += got
        head, split, body = self.buffer.partition(b"\r\n\r\n")
        if not split:
            return False
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if len(body) < length:
            return False
        self.results.append((int(head[9:12]), time.time() - self.start,
                             b"retry-after" in head.lower()))
        return True


def drive(port, count, seconds, make, pace=0.0, on_tick=None):
    """`count` clients for `seconds`; each waits `pace` after a refusal."""
    selector = selectors.DefaultSelector()
    stop = time.time() + seconds
    clients = [Connection(port, make, selector, stop) for _ in range(count)]
    for c in clients:
        c.open()
        c.send()
    waiting = []
    while time.time() < stop:
        for key, _ in selector.select(0.01):
            c = key.data
            if c.readable():
                c.not_before = time.time() + (pace if c.results[-1][0] != 200 else 0)
                waiting.append(c)
        now = time.time()
        for c in [w for w in waiting if w.not_before <= now]:
            waiting.remove(c)
            c.send()
        if on_tick:
            on_tick(now)
    for c in clients:
        selector.unregister(c.socket)
        c.socket.close()
    return [r for c in clients for r in c.results]


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


seeds = iter(range(1, 1 << 30))


def fresh():
    """A request for the next picture and seed: the abduction cache helps only every 400th."""
    return request(next(seeds), b"Prefer: wait=60\r\n")


def case_saturation():
    with started("--abductions-mb", "1", "--abductions-age-s", "1") as s:
        global pictures
        pictures = distinct(s, 400)
        for clients in (1, 2, 8, 32):
            before = s.metric("diffscm_batched_jobs_total"), s.metric("diffscm_batches_total")
            busy = s.metric("diffscm_inference_seconds_sum")
            start = time.time()
            results = drive(s.port, clients, 10, fresh)
            seconds = time.time() - start
            while s.metric("diffscm_workers_busy"):
                time.sleep(0.01)  # the last batches are canceled with their clients
            took = time.time() - start
            good = [r for r in results if r[0] == 200]
            jobs = s.metric("diffscm_batched_jobs_total") - before[0]
            batches = s.metric("diffscm_batches_total") - before[1]
            workers = s.metric("diffscm_workers")
            share = (s.metric("diffscm_inference_seconds_sum") - busy) / took / workers
            print(f"saturation: {clients} clients {len(good) / seconds:.1f} counterfactuals/s, "
                  f"p50 {percentile([r[1] for r in good], .5) * 1e3:.0f} ms, "
                  f"p95 {percentile([r[1] for r in good], .95) * 1e3:.0f} ms, "
                  f"{jobs / max(batches, 1):.1f} jobs per batch, workers busy {share:.3f}",
                  flush=True)
            if clients >= 8:
                promise(share >= 0.95, "at saturation the workers infer 95 % of the time")


def distinct(s, count):
    """`count` pictures that differ, made of a few samples shifted by a pixel or more."""
    base = samples(s, 10)
    out = []
    for n in range(count):
        raw = unfiltered(base[n % 10])
        dx, dy = (n // 10) % 7 - 3, (n // 70) % 7 - 3
        rows = [raw[(y - dy) % 28] for y in range(28)]
        rows = [r[-dx:] + r[:-dx] if dx else r for r in rows]
        rows[0] = bytes([n % 4 * 2]) + rows[0][1:]
        data = zlib.compress(b"".join(b"\0" + r for r in rows))
        out.append(b"\x89PNG\r\n\x1a\n" + lib.chunk(b"IHDR", struct.pack(
            ">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)) + lib.chunk(b"IDAT", data) +
            lib.chunk(b"IEND", b""))
    return out


def unfiltered(png):
    """Rows of an 8-bit grey PNG."""
    pos, idat = 8, b""
    while pos < len(png):
        size, kind = struct.unpack(">I4s", png[pos:pos + 8])
        if kind == b"IHDR":
            w, h = struct.unpack(">II", png[pos + 8:pos + 16])
        if kind == b"IDAT":
            idat += png[pos + 8:pos + 8 + size]
        pos += 12 + size
    raw, rows, last = zlib.decompress(idat), [], bytearray(w)
    for y in range(h):
        kind, row = raw[y * (w + 1)], bytearray(raw[y * (w + 1) + 1:(y + 1) * (w + 1)])
        for x in range(w):
            a, b, c = row[x - 1] if x else 0, last[x], last[x - 1] if x else 0
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            row[x] = (row[x] + (0, a, b, (a + b) // 2, near)[kind]) & 255
        rows.append(bytes(row))
        last = row
    return rows


def in_process(count):
    """Seconds that `diffscm counterfactual` takes for so many of the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        images, targets = (os.path.join(folder, n) for n in ("x-idx3-ubyte", "y-idx1-ubyte"))
        with open(images, "wb") as f:
            f.write(struct.pack(">IIII", 0x803, count, 28, 28))
            for i in range(count):
                f.write(b"".join(unfiltered(pictures[i % len(pictures)])))
        with open(targets, "wb") as f:
            f.write(struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count)))
        start = time.time()
        subprocess.run([PROGRAM, "counterfactual", "--images", images, "--targets", targets,
                        "--out", os.path.join(folder, "z"), "--batch", "16"], check=True,
                       capture_output=True)
        return time.time() - start


def case_compare(count=640):
    """Saturated service against the same work in one process, taken in turns: other load on the
    machine meets both."""
    global pictures
    served, alone = [], []
    with started("--abductions-mb", "1", "--queue-capacity", "512", "--client-share", "100") as s:
        pictures = distinct(s, 400)
        for _ in range(3):
            results = drive(s.port, 96, 12, fresh)
            served.append(sum(r[0] == 200 for r in results) / 12)
            while s.metric("diffscm_workers_busy"):
                time.sleep(0.01)
            base = in_process(32)
            alone.append((count - 32) / (in_process(count) - base))
        jobs = s.metric("diffscm_batched_jobs_total") / s.metric("diffscm_batches_total")
    ratio = sorted(a / b for a, b in zip(served, alone))[1]
    print(f"compare: service {[round(v, 1) for v in served]}/s, in process "
          f"{[round(v, 1) for v in alone]}/s, median ratio {ratio:.2f}, {jobs:.1f} jobs per batch",
          flush=True)
    promise(ratio >= 0.95, "the service reaches 95 % of the same work in one process")


def case_overload(seconds=int(os.environ.get("LOAD_SECONDS", "60"))):
    # The client share is raised: all of the load comes from one address here.
    with started("--queue-capacity", "32", "--client-share", "100", "--connections", "4096",
                 "--streams", "300") as s:
        global pictures
        pictures = distinct(s, 400)
        # One worker is held by a long job for the streams to watch, in both measurements.
        slow = s.post("do.digit=3&seed=13&steps=900&scale=auto&deadline_ms=600000",
                      {"Prefer": "respond-async"}, body=pictures[0]).json["id"]
        s.wait_state(slow, "running")
        peak = drive(s.port, 16, 10, fresh)
        peak = sum(r[0] == 200 for r in peak) / 10
        idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(2000)]
        streams = []
        for _ in range(200):
            c = socket.create_connection(("127.0.0.1", s.port))
            c.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % slow.encode())
            streams.append(c)
        probes, memory = [], []
        stop = threading.Event()

        def probe():
            while not stop.wait(0.1):
                for path in ("/readyz", "/metrics"):
                    start = time.time()
                    s.admin(path)
                    probes.append(time.time() - start)
                memory.append(s.rss())

        t = threading.Thread(target=probe)
        t.start()
        results = drive(s.port, 400, seconds, fresh, pace=400 / (10 * peak))
        held = sum(1 for c in idle if alive(c))
        streaming = s.metric("diffscm_streams")
        stop.set()
        t.join()
        good = sum(r[0] == 200 for r in results) / seconds
        refused = [r for r in results if r[0] in (429, 503)]
        other = [r for r in results if r[0] not in (200, 429, 503)]
        late = percentile([r[1] for r in refused], .99) * 1e3
        inside = percentile([l["ms"] for l in s.lines() if l.get("status") in (429, 503)], .99)
        growth = (max(memory[len(memory) // 2:]) - max(memory[:len(memory) // 4])) / 2**20
        print(f"overload: {seconds} s, peak {peak:.1f}/s, goodput {good:.1f}/s, "
              f"{len(refused) / seconds:.0f} refused/s (x{len(refused) / seconds / max(good, .1):.0f})"
              f" within p99 {late:.0f} ms ({inside:.1f} ms in the server), max {max(r[1] for r in refused) * 1e3:.0f} ms, other "
              f"{len(other)}, {held} of 2000 idle and {streaming:.0f} of 200 streams held, probes p99 "
              f"{percentile(probes, .99) * 1e3:.1f} ms, memory {max(memory) / 2**20:.0f} MiB, "
              f"growth {growth:.1f} MiB", flush=True)
        promise(all(r[2] for r in refused), "every refusal carries Retry-After")
        promise(not other, "nothing but 200, 429 and 503")
        promise(late <= 50, "99 % of refusals within 50 ms")
        promise(good >= 0.95 * peak, "goodput stays at 95 % of peak")
        promise(percentile(probes, .99) <= 0.02, "probes within 20 ms at p99")
        promise(held == 2000 and streaming == 200, "idle connections and streams are held")
        promise(growth < 16, "memory is flat")
        for c in idle + streams:
            c.close()
        s.call("DELETE", "/jobs/" + slow)


def alive(c):
    c.setblocking(False)
    try:
        return c.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def case_aborts(count=2000):
    rng = random.Random(5)
    with started("--queue-capacity", "64", "--client-share", "100") as s:
        global pictures
        pictures = distinct(s, 400)
        keep = s.post("do.digit=1&seed=9", {"Prefer": "respond-async"}, body=pictures[1])
        s.post("do.digit=1", body=pictures[2])
        before = s.rss()
        live = []
        accepted = s.metric("diffscm_jobs_accepted_total")
        for i in range(count):
            c = socket.create_connection(("127.0.0.1", s.port))
            extra = b"Accept: text/event-stream\r\n" if i % 3 == 0 else b""
            c.sendall(request(next(seeds), extra))
            live.append((time.time() + rng.random() * 0.4, c))
            now = time.time()
            for entry in [e for e in live if e[0] <= now]:
                live.remove(entry)
                entry[1].close()
            while len(live) > 40:
                _, c = live.pop(0)
                c.close()
            time.sleep(0.004)
        for _, c in live:
            c.close()
        start = time.time()
        while s.metric("diffscm_workers_busy") and time.time() - start < 20:
            time.sleep(0.01)
        free = time.time() - start
        names = ("accepted", "started")
        total = {n: s.metric(f"diffscm_jobs_{n}_total") for n in names}
        ended = s.metric("diffscm_jobs_ended_total")
        gone = s.metric('diffscm_jobs_ended_total{state="canceled",reason="disconnect"}')
        refused = s.metric("diffscm_rejects_total")
        assert s.wait_state(keep.json["id"], "succeeded")
        ok = s.post("do.digit=1", body=pictures[3]).status
        print(f"aborts: {count} requests, {total['accepted'] - accepted:.0f} accepted, "
              f"{refused:.0f} refused, {gone:.0f} canceled by disconnect, workers free after "
              f"{free * 1e3:.0f} ms, accepted {total['accepted']:.0f} = ended {ended:.0f}, memory "
              f"{before / 2**20:.0f} -> {s.rss() / 2**20:.0f} MiB", flush=True)
        promise(total["accepted"] == ended, "every accepted job ends")
        promise(free < 0.5, "workers are free within a step and 200 ms")
        promise(ok == 200, "the service goes on")
        promise(s.rss() - before < 32 << 20, "nothing leaks")


def case_sigterm(count=50):
    worst = 0
    finished = canceled = cut = 0
    for i in range(count):
        with started("--drain-s", "1", "--queue-capacity", "64", "--client-share", "100") as s:
            global pictures
            pictures = pictures or distinct(s, 50)
            out = []

            def client():
                c = socket.create_connection(("127.0.0.1", s.port))
                try:
                    c.sendall(request(next(seeds)))
                    c.settimeout(20)
                    got = b""
                    while b"\r\n\r\n" not in got:
                        piece = c.recv(65536)
                        if not piece:
                            break
                        got += piece
                    out.append(int(got[9:12]) if got else 0)
                except OSError:
                    out.append(-1)
                finally:
                    c.close()

            threads = [threading.Thread(target=client) for _ in range(20)]
            [t.start() for t in threads]
            time.sleep(0.1 + 0.02 * (i % 10))
            start = time.time()
            s.process.send_signal(signal.SIGTERM)
            code = s.process.wait(30)
            worst = max(worst, time.time() - start)
            [t.join() for t in threads]
            promise(code == 0, f"exit status {code}")
            finished += out.count(200)
            canceled += out.count(503)
            cut += len(out) - out.count(200) - out.count(503)
    print(f"sigterm: {count} stops under load, slowest {worst:.2f} s with 1 s of grace, "
          f"{finished} finished, {canceled} told 503, {cut} others", flush=True)
    promise(worst < 4.5, "the stop keeps within its grace")
    promise(cut == 0, "every accepted job is answered")


pictures = []
CASES = {"saturation": case_saturation, "compare": case_compare, "overload": case_overload, "aborts": case_aborts,
         "sigterm": case_sigterm}

if __name__ == "__main__":
    for name in sys.argv[2:] or CASES:
        CASES[name]()
    print("all promises kept" if not FAILED else f"{len(FAILED)} promises broken")
    sys.exit(bool(FAILED))
