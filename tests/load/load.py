"""Load and abuse of the service: python3 tests/load/load.py build/diffscm [CASE…]

Cases: saturation, compare, fan, overload, aborts, sigterm. Each prints one line of figures, and fails (exit 1)
when a promise of docs/operations.md is broken. Needs models/ beside the program; not part of
`make test`, since it takes minutes and wants a quiet machine."""
import base64, json, os, random, re, signal, socket, struct, subprocess, sys, tempfile, threading, time, zlib

here = os.path.dirname(os.path.abspath(__file__))
sys.path += [os.path.join(here, "..", "http"), os.path.join(here, "..", "..", "tools")]
import grey_png
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


def storm(s, clients, seconds, rate=0, warmup=2, count=4000):
    """Drives the service by the client in C, which costs it less processor time than one in Python."""
    program = os.path.join(os.path.dirname(os.path.realpath(PROGRAM)), "storm")
    if PROGRAM.endswith("test_http"):
        program = os.path.join(os.path.dirname(PROGRAM), "../../storm")
    with tempfile.NamedTemporaryFile() as f:
        for _ in range(count):
            data = fresh()
            f.write(struct.pack("<I", len(data)) + data)
        f.flush()
        out = subprocess.run([program, str(s.port), f.name, str(clients), str(rate), str(seconds),
                              str(warmup)], check=True, capture_output=True, text=True)
    result = json.loads(out.stdout)
    result["status"] = {int(k): v for k, v in result["status"].items()}
    return result


def good(result):
    """Counterfactuals per second."""
    return result["status"].get(200, {"count": 0})["count"] / result["seconds"]


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
        for clients in (1, 2, 8, 32, 96):
            before = s.metric("diffscm_batched_jobs_total"), s.metric("diffscm_batches_total")
            busy, start = s.metric("diffscm_inference_seconds_sum"), time.time()
            result = storm(s, clients, 10)
            while s.metric("diffscm_workers_busy"):
                time.sleep(0.01)  # the last batches are canceled with their clients
            took = time.time() - start
            jobs = s.metric("diffscm_batched_jobs_total") - before[0]
            batches = s.metric("diffscm_batches_total") - before[1]
            share = ((s.metric("diffscm_inference_seconds_sum") - busy) / took /
                     s.metric("diffscm_workers"))
            ok = result["status"][200]
            print(f"saturation: {clients} clients {good(result):.1f} counterfactuals/s, p50 "
                  f"{ok['p50']:.0f} ms, p99 {ok['p99']:.0f} ms, {jobs / max(batches, 1):.1f} jobs "
                  f"per batch, workers busy {share:.3f}", flush=True)
            if clients >= 32:
                promise(share >= 0.95, "at saturation the workers infer 95 % of the time")


def distinct(s, count):
    """`count` pictures that differ, made of a few samples shifted by a pixel or more."""
    base = samples(s, 10)
    out = []
    for n in range(count):
        raw = grey_png.rows(base[n % 10])
        dx, dy = (n // 10) % 7 - 3, (n // 70) % 7 - 3
        rows = [raw[(y - dy) % 28] for y in range(28)]
        rows = [r[-dx:] + r[:-dx] if dx else r for r in rows]
        rows[0] = bytes([n % 4 * 2]) + rows[0][1:]
        data = zlib.compress(b"".join(b"\0" + r for r in rows))
        out.append(b"\x89PNG\r\n\x1a\n" + lib.chunk(b"IHDR", struct.pack(
            ">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)) + lib.chunk(b"IDAT", data) +
            lib.chunk(b"IEND", b""))
    return out


def in_process(count, scores):
    """Counterfactuals per second that `diffscm counterfactual` reaches, by its own clock: inference
    alone, or with the scores that the service gives, which it makes on one thread afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        images, targets = (os.path.join(folder, n) for n in ("x-idx3-ubyte", "y-idx1-ubyte"))
        with open(images, "wb") as f:
            f.write(struct.pack(">IIII", 0x803, count, 28, 28))
            for i in range(count):
                f.write(b"".join(grey_png.rows(pictures[i % len(pictures)])))
        with open(targets, "wb") as f:
            f.write(struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count)))
        more = ["--scores", os.path.join(folder, "s")] if scores else []
        start = time.time()
        run = subprocess.run([PROGRAM, "counterfactual", "--images", images, "--targets", targets,
                              "--out", os.path.join(folder, "z"), "--batch", "16", "--threads",
                              str(os.cpu_count()), *more], check=True, capture_output=True,
                             text=True)
        whole = time.time() - start
        inference = float(re.search(r"images in ([0-9.]+) s", run.stderr).group(1))
        return count / (whole if scores else inference)


def case_compare(count=512, rounds=int(os.environ.get("LOAD_ROUNDS", "3"))):
    """Saturated service against the command line on the same pictures, batch and threads, taken in
    turns. The first ratio is against inference alone, though the service also decodes, observes,
    walks for the verdict, scores and encodes; the second, which is promised, against a command that
    does so too."""
    global pictures
    ratios = []
    with started("--abductions-mb", "1", "--queue-capacity", "512", "--client-share", "100") as s:
        pictures = distinct(s, 400)
        for _ in range(rounds):
            served = good(storm(s, 96, 17, warmup=3))
            while s.metric("diffscm_workers_busy"):
                time.sleep(0.01)
            bare, scored = in_process(count, False), in_process(count, True)
            ratios.append((served / bare, served / scored))
            print(f"compare: service {served:.1f}/s, in process {bare:.1f}/s, with scores "
                  f"{scored:.1f}/s", flush=True)
        jobs = s.metric("diffscm_batched_jobs_total") / s.metric("diffscm_batches_total")
    bare, scored = (sorted(r[i] for r in ratios)[len(ratios) // 2] for i in (0, 1))
    print(f"compare: median ratio {bare:.3f}, with scores {scored:.3f}, {jobs:.1f} jobs per batch",
          flush=True)
    promise(scored >= 0.95, "the service reaches 95 % of the same work in one process")


def case_fan():
    """What a fan of ten costs, against one counterfactual, to each label in turn: nothing else runs."""
    global pictures
    with started("--abductions-mb", "1", "--abductions-age-s", "1") as s:
        pictures = distinct(s, 40)
        times = {(scale, target): [] for scale in ("4", "auto") for target in ("one", "*")}
        for i in range(20):
            for (scale, target), list_ in times.items():
                digit = i % 10 if target == "one" else target
                start = time.time()
                assert s.post(f"do.digit={digit}&scale={scale}&seed={i}", body=pictures[i]).status == 200
                list_.append(time.time() - start)
                time.sleep(1.2 if i == 0 else 0)  # so that the cache has forgotten
                pictures = pictures[1:] + pictures[:1]
    # With a search each target takes its own walks, easy or hard: the mean says what they cost.
    for scale, most in (("4", 6), ("auto", 8)):
        one, fan = (sum(times[scale, target]) / len(times[scale, target]) for target in ("one", "*"))
        print(f"fan, scale {scale}: one {one * 1e3:.1f} ms, ten {fan * 1e3:.1f} ms, ratio {fan / one:.2f}",
              flush=True)
        promise(fan <= most * one, f"a fan of ten costs at most {most} single ones, scale {scale}")


def watch(s, stop, probes, memory):
    """Asks for readiness and metrics ten times a second, over one connection each time."""
    while not stop.wait(0.1):
        for path in ("/readyz", "/metrics"):
            start = time.time()
            s.admin(path)
            probes.append((time.time() - start) * 1e3)
        memory.append(s.rss() / 2**20)


def case_overload(seconds=int(os.environ.get("LOAD_SECONDS", "60")),
                  peak_seconds=int(os.environ.get("LOAD_PEAK_SECONDS", "25"))):
    # The client share is raised: all of the load comes from one address here.
    with started("--queue-capacity", "64", "--client-share", "100", "--connections", "4096",
                 "--streams", "300", "--abductions-mb", "8", "--jobs-mb", "16") as s:
        global pictures
        pictures = distinct(s, 400)
        # A long job holds one worker, for the streams to watch; everything is held in both
        # measurements, so that only the rate of requests differs.
        slow = s.post_json({"image": base64.b64encode(pictures[0]).decode(),
                            "interventions": [{"digit": i % 10} for i in range(32)],
                            "options": {"steps": 940, "scale": "auto"}, "deadline_ms": 600000},
                           {"Prefer": "respond-async"}).json["id"]
        s.wait_state(slow, "running")
        idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(2000)]
        streams = []
        for _ in range(200):
            c = socket.create_connection(("127.0.0.1", s.port))
            c.sendall(b"GET /jobs/%s/events HTTP/1.1\r\nHost: x\r\n\r\n" % slow.encode())
            streams.append(c)
        probes, memory, stop = [], [], threading.Event()
        watcher = threading.Thread(target=watch, args=(s, stop, probes, memory))
        watcher.start()
        peak = good(storm(s, 48, peak_seconds, warmup=5))
        memory.clear(), probes.clear()
        warmup = min(5, seconds / 4)
        result = storm(s, 256, seconds, rate=10 * peak, warmup=warmup)
        held, streaming = sum(map(alive, idle)), s.metric("diffscm_streams")
        stop.set()
        watcher.join()
        served = good(result)
        refused = [v for k, v in result["status"].items() if k in (429, 503)]
        other = {k: v["count"] for k, v in result["status"].items() if k not in (200, 429, 503)}
        count = sum(v["count"] for v in refused)
        late, latest = (max(v[k] for v in refused) for k in ("p99", "max"))
        inside = [l["ms"] for l in s.lines() if l.get("status") in (429, 503)]
        growth = max(memory[-len(memory) // 4:]) - max(memory[:len(memory) // 4])
        print(f"overload: {seconds} s at {10 * peak:.0f} requests/s, peak {peak:.1f}/s, goodput "
              f"{served:.1f}/s, {count / result['seconds']:.0f} refused/s within p99 {late:.1f} ms, "
              f"max {latest:.1f} ms (in the server p99 {percentile(inside, .99):.1f} ms, max "
              f"{max(inside):.1f} ms), other {other}, lost {result['lost']}, late {result['late']}, "
              f"{held} of 2000 idle and {streaming:.0f} of 200 streams held, probes p50 "
              f"{percentile(probes, .5):.1f} ms, p99 {percentile(probes, .99):.1f} ms, memory "
              f"{max(memory):.0f} MiB, growth {growth:.1f} MiB", flush=True)
        promise(not sum(v["without_retry_after"] for v in refused), "refusals carry Retry-After")
        promise(not other and not result["lost"], "nothing but 200, 429 and 503")
        promise(latest <= 50, "every refusal within 50 ms")
        promise(served >= 0.95 * peak, "goodput stays at 95 % of peak")
        promise(percentile(probes, .99) <= 20, "probes within 20 ms at p99")
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
        s.wait_state(keep.json["id"], "succeeded")
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

            threads = [threading.Thread(target=client) for _ in range(60)]
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
CASES = {"saturation": case_saturation, "compare": case_compare, "fan": case_fan,
         "overload": case_overload, "aborts": case_aborts, "sigterm": case_sigterm}

if __name__ == "__main__":
    for name in sys.argv[2:] or CASES:
        CASES[name]()
    print("all promises kept" if not FAILED else f"{len(FAILED)} promises broken")
    sys.exit(bool(FAILED))
