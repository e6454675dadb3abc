"""The same legitimate load without and with attackers, in turns: python3 tests/load/hostile.py PROGRAM [SECONDS [ROUNDS]]

PROGRAM is build/diffscm, or build/release/tests/http/test_http, whose jobs sleep: that shows the service beside
other work on the machine. The legitimate client (127.0.0.2) asks for counterfactuals at a quarter of the capacity,
which is its share beside two attackers that send jobs, and for GET /models 20 times a second. Attackers, each from an
address of its own: bodies that come byte by byte, pictures that cost, 1,000 silent connections, a log that nobody
reads, and ten times the load that the service can take; ATTACKERS in the environment chooses among them.

Fails unless goodput stays at 95 % and GET /models within 20 ms at p99; the latter is not judged where the machine lets
the listener's thread wait for a processor for 5 % of the time."""
import contextlib, http.client, os, random, signal, socket, struct, subprocess, sys, tempfile, threading, time, zlib

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "http"))
import lib
from lib import picture

ATTACK = sys.argv[1] == "--attack"
if ATTACK:
    del sys.argv[1]
PROGRAM = os.path.abspath(sys.argv[1])
SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 and not ATTACK else 20
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 and not ATTACK else 3
FAKE = PROGRAM.endswith("test_http")
QUERY = "sampler=obelm&steps=10" if FAKE else "steps=2&scale=1"
LEGITIMATE, HEAD = "127.0.0.2", b"POST /counterfactual?do.digit=8 HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"


@contextlib.contextmanager
def service():
    """Its log goes into a pipe that nobody reads. (port, admin port, process)"""
    port, admin = lib.free_port(), lib.free_port()
    read, write = os.pipe()
    command = [PROGRAM, "--serve" if FAKE else "serve", "--port", str(port), "--admin-port", str(admin), "--workers",
               "2", "--batch", "4", "--queue-capacity", "64", "--client-share", "50"]
    process = subprocess.Popen(command, stderr=write, stdout=subprocess.DEVNULL, env=dict(os.environ, FAKE_STEP_MS="10"))
    os.close(write)
    try:
        lib.until(lambda: ask(admin, "GET", "/readyz")[0] == 200, "the service is ready")
        yield port, admin, process
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "the service stops as it should"
    finally:
        process.kill()
        process.wait()
        os.close(read)


def ask(port, method, path, body=None, source="127.0.0.1", timeout=30, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout, source_address=(source, 0))
    try:
        c.request(method, path, body, headers or {})
        r = c.getresponse()
        r.read()
        return r.status, r
    finally:
        c.close()


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


# ---- the legitimate client ----
class Client:
    """Sends at a steady rate, whether or not earlier calls are answered."""

    def __init__(self, port, rate, seconds):
        self.port, self.seconds, self.rate, self.good, self.bad, self.probes = port, seconds, rate, 0, {}, []
        self.lock, self.seed = threading.Lock(), 0

    def call(self):
        with self.lock:
            self.seed += 1
            seed = self.seed
        try:
            status = ask(self.port, "POST", f"/counterfactual?do.digit=8&seed={seed}&{QUERY}", picture(seed % 200),
                         LEGITIMATE, headers={"Content-Type": "image/png", "Prefer": "wait=60"})[0]
        except (OSError, http.client.HTTPException) as error:
            status = type(error).__name__
        with self.lock:
            self.good += status == 200
            if status != 200:
                self.bad[status] = self.bad.get(status, 0) + 1

    def probe(self, end):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(LEGITIMATE, 0))
        while time.monotonic() < end:
            start = time.monotonic()
            c.request("GET", "/models")
            c.getresponse().read()
            self.probes.append((time.monotonic() - start) * 1e3)
            time.sleep(.05)
        c.close()

    def run(self):
        begin = time.monotonic()
        end, sent, threads = begin + self.seconds, 0, []
        prober = threading.Thread(target=self.probe, args=(end,))
        prober.start()
        while time.monotonic() < end:
            time.sleep(max(0, begin + sent / self.rate - time.monotonic()))
            threads.append(threading.Thread(target=self.call))
            threads[-1].start()
            sent += 1
        for t in threads + [prober]:
            t.join()
        return self.good / sent


# ---- attackers: each a generator that works until it is closed ----
def slow_bodies(port, stop):
    held = []
    while not stop.wait(.2):
        if len(held) < 100:
            with contextlib.suppress(OSError):
                c = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=("127.0.0.3", 0))
                c.sendall(HEAD + b"Content-Length: 16000000\r\n\r\n" + b"x" * 1000)
                held.append(c)
        for c in list(held):
            try:
                c.sendall(b"x")
            except OSError:
                held.remove(c)
    for c in held:
        c.close()


def costly_pictures(port, stop):
    side = 4096
    data = zlib.compress(bytes((side * 8 + 1) * side), 1)
    png = b"\x89PNG\r\n\x1a\n" + lib.chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)) + \
        lib.chunk(b"IDAT", data) + lib.chunk(b"IEND", b"")
    arithmetic = b"\xff\xd8\xff\xc9\x00\x0b\x08\x0f\xff\x0f\xff\x01\x01\x11\x00" + bytes(2000)
    chance = random.Random(1)
    while not stop.is_set():
        body, kind = chance.choice([(png, "image/png"), (arithmetic, "image/jpeg")])
        more = chance.choice(["", "&resize=false", "&seed=3"])
        with contextlib.suppress(OSError, http.client.HTTPException):
            ask(port, "POST", f"/counterfactual?do.digit=8{more}", body, "127.0.0.4", 20,
                {"Content-Type": kind, "Prefer": "respond-async"})
        stop.wait(.1)


def silent(port, stop):
    held = []
    while not stop.wait(.02):
        if len(held) < 1000:
            with contextlib.suppress(OSError):
                held.append(socket.create_connection(("127.0.0.1", port), timeout=5, source_address=("127.0.0.5", 0)))
                if len(held) % 2:
                    held[-1].sendall(b"GET /models HTTP/1.1\r\nHost: x\r\n")
    for c in held:
        c.close()


def overload(port, stop, rate):
    """By the client in C, from 127.0.0.1."""
    program = os.path.join(os.path.dirname(os.path.realpath(PROGRAM)), "../../storm" if FAKE else "storm")
    with tempfile.NamedTemporaryFile() as file:
        for seed in range(500):
            body = picture(seed % 200)
            data = b"POST /counterfactual?do.digit=3&seed=%d&%s HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" \
                b"Prefer: wait=60\r\nContent-Length: %d\r\n\r\n" % (seed, QUERY.encode(), len(body)) + body
            file.write(struct.pack("<I", len(data)) + data)
        file.flush()
        process = subprocess.Popen([program, str(port), file.name, "128", str(rate), "100000", "0"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stop.wait()
        process.kill()
        process.wait()


def attack(port, rate):
    """All of them, in this process, until its standard input ends."""
    stop = threading.Event()
    chosen = os.environ.get("ATTACKERS", "slow_bodies costly_pictures costly_pictures silent overload").split()
    threads = [threading.Thread(target=globals()[f], args=(port, stop, *([rate] if f == "overload" else [])))
               for f in chosen]
    for t in threads:
        t.start()
    sys.stdin.read()
    stop.set()
    for t in threads:
        t.join()


def attacked(port, rate, run):
    """Runs while attackers, in a process of their own, are at work."""
    with subprocess.Popen([sys.executable, __file__, "--attack", PROGRAM, str(port), str(rate)], stdin=subprocess.PIPE) as p:
        try:
            time.sleep(5)
            return run()
        finally:
            p.stdin.close()


def capacity(port):
    """Counterfactuals per second with 16 clients at a time."""
    end, counts = time.monotonic() + 5, []

    def work(index):
        c = Client(port, 1, 1)
        c.seed = index * 100000
        while time.monotonic() < end:
            c.call()
        counts.append(c.good)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(counts) / 5


def listener(process):
    """Seconds that the thread of the public listener has run, and has waited for a processor."""
    for task in sorted(os.listdir(f"/proc/{process.pid}/task"), key=int):
        with open(f"/proc/{process.pid}/task/{task}/comm") as comm, \
                open(f"/proc/{process.pid}/task/{task}/schedstat") as stat:
            if comm.read().startswith("MHD"):
                found = [int(n) / 1e9 for n in stat.read().split()[:2]]  # the public one is started last
    return found


def main():
    alone, beside, probes_alone, probes_beside, bad, ran, waited = [], [], [], [], {}, 0, 0
    with service() as (port, admin, process):
        peak = capacity(port)
        rate = min(peak / 4, 20)
        for _ in range(ROUNDS):
            c = Client(port, rate, SECONDS)
            alone.append(c.run())
            probes_alone += c.probes
            time.sleep(1)
            c = Client(port, rate, SECONDS)
            before = listener(process)
            beside.append(attacked(port, 10 * peak, c.run))
            ran, waited = (ran + after - start for ran, after, start in zip((ran, waited), listener(process), before))
            probes_beside += c.probes
            for k, v in c.bad.items():
                bad[k] = bad.get(k, 0) + v
            time.sleep(2)
        state = ask(admin, "GET", "/readyz")[0]
    quiet, busy = sum(alone) / ROUNDS, sum(beside) / ROUNDS
    p_quiet, p_busy = percentile(probes_alone, .99), percentile(probes_beside, .99)
    print(f"hostile: {ROUNDS} rounds of {SECONDS:.0f} s, capacity {peak:.1f}/s, legitimate {rate:.1f}/s: goodput "
          f"{100 * quiet:.1f} % without and {100 * busy:.1f} % with attackers ({10 * peak:.0f} requests/s; not good: {bad}); "
          f"GET /models p50 {percentile(probes_alone, .5):.1f} and {percentile(probes_beside, .5):.1f} ms, p99 "
          f"{p_quiet:.1f} and {p_busy:.1f} ms, of {len(probes_beside)}; beside attackers the listener's thread ran {ran:.2f} s and waited {waited:.2f} s for a "
          f"processor; load average {os.getloadavg()[0]:.1f}", flush=True)
    faults = []
    if busy < .95 * quiet:
        faults.append("goodput falls below 95 %")
    starved = waited > .05 * ROUNDS * SECONDS
    if starved:
        print("  the machine had no processor for the service: GET /models is not judged", flush=True)
    elif p_busy > 20:
        faults.append("GET /models takes more than 20 ms at p99")
    if state != 200:
        faults.append("the service is not ready afterwards")
    for fault in faults:
        print("  BROKEN: " + fault, flush=True)
    return bool(faults)


if __name__ == "__main__":
    if ATTACK:
        sys.exit(attack(int(sys.argv[2]), float(sys.argv[3])))
    sys.exit(main())
