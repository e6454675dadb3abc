"""Allocations that fail: the n-th of every command, and some of a thousand under load.

usage: run.py PROGRAM FAILING.so TEST_HTTP [--whole] [--seconds N]

A command may succeed or end with 1 or 2 and a message; a signal, a hang (30 s), silence about a failure or a
result that differs is a fault. The service (on the fake engine) may refuse and drop calls, but must neither
end nor hang nor answer 2xx without a key, and its accounts must be even once all is over. A sample of n fits
into CI; --whole tries every n."""
import http.client, json, os, random, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "http"))
import lib

PROGRAM, FAILING, SERVER = map(os.path.abspath, sys.argv[1:4])
WHOLE = "--whole" in sys.argv
SECONDS = int(sys.argv[sys.argv.index("--seconds") + 1]) if "--seconds" in sys.argv else 90
faults = []


def fault(*words):
    faults.append(" ".join(map(str, words)))
    print("  FAIL", faults[-1], flush=True)


def run(command, nth, count=None, folder=None):
    env = dict(os.environ, LD_PRELOAD=os.path.abspath(FAILING), FAILING_NTH=str(nth),
               OPENBLAS_NUM_THREADS="1")
    if count:
        env["FAILING_COUNT"] = count
    try:
        return subprocess.run([PROGRAM, *command], capture_output=True, env=env, timeout=30, cwd=folder)
    except subprocess.TimeoutExpired:
        return None


def sample(total, most):
    """All of the first ones, and some of the rest."""
    if WHOLE or total <= most:
        return list(range(1, total + 1))
    first = list(range(1, most // 3))
    return first + sorted(random.sample(range(most // 3, total + 1), most - len(first)))


def command(words, until, folder):
    count = os.path.join(folder, "count")
    whole = run(words, 0, count, folder)
    if whole is None or whole.returncode != 0:
        return fault(words, "fails without any failing allocation", whole and whole.stderr)
    total, tried = int(open(count).read()), 0
    for n in sample(total, 60):
        if time.time() > until:
            break
        tried += 1
        done = run(words, n, None, folder)
        if done is None:
            fault(words, f"allocation {n} of {total}: hangs")
        elif done.returncode < 0 or done.returncode not in (0, 1, 2):
            fault(words, f"allocation {n} of {total}: exit {done.returncode}", done.stderr[-300:])
        elif done.returncode and not done.stderr.strip():
            fault(words, f"allocation {n} of {total}: exit {done.returncode} without a word")
    print(f"  {' '.join(words)[:60]}: {tried} of {total} allocations", flush=True)


def commands(until):
    model = os.path.join(ROOT, "models", "mnist")
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "7.png"), "wb") as f:
            f.write(lib.picture(0))
        every = [["--version"], ["--help"], ["info", model], ["serve", "--print-config"],
                 ["sample", "--model", model, "--steps", "2", "--count", "1", "-o", "s.png"],
                 ["counterfactual", "7.png", "--model", model, "--do", "digit=8", "--scale", "1",
                  "--steps", "2", "-o", "o.png"]]
        for i, words in enumerate(every):
            command(words, time.time() + (until - time.time()) / (len(every) - i), folder)


def service(seconds):
    """One in a hundred allocations of a running service fails."""
    with tempfile.TemporaryDirectory() as folder:
        keys, gate = os.path.join(folder, "keys"), os.path.join(folder, "gate")
        with open(keys, "w") as f:
            f.write("a " + __import__("hashlib").sha256(b"key").hexdigest() + "\n")
        lib.PROGRAM = os.path.abspath(SERVER)
        env = {"LD_PRELOAD": os.path.abspath(FAILING), "FAILING_PERMILLE": "10",
               "FAILING_AFTER": gate}
        with lib.Server("--keys-file", keys, "--client-share", "100",
                        step_ms=1, env=env, expect=None) as s:
            counts, end = {}, time.time() + seconds
            open(gate, "w").close()
            calls = [("GET", "/models", None, {}), ("GET", "/openapi.json", None, {}),
                     ("POST", "/samples", b"", {}), ("GET", "/jobs/" + "0" * 32, None, {}),
                     ("POST", "/counterfactual?do.digit=8", lib.picture(), {"Content-Type": "image/png"}),
                     ("POST", "/counterfactual?do.digit=8", lib.picture(),
                      {"Content-Type": "image/png", "Accept": "text/event-stream"}),
                     ("POST", "/abductions", lib.picture(), {"Content-Type": "image/png", "Prefer": "respond-async"}),
                     ("POST", "/counterfactual", json.dumps({"image": lib.picture64(), "intervention": {"digit": 1}}),
                      {"Content-Type": "application/json", "Idempotency-Key": "k"}),
                     ("DELETE", "/jobs/" + "1" * 32, None, {})]

            def load(seed):
                chance = random.Random(seed)
                while time.time() < end:
                    method, path, body, headers = chance.choice(calls)
                    keyed = chance.random() < 0.5
                    if keyed:
                        headers = dict(headers, Authorization="Bearer key")
                    try:
                        status = s.call(method, path, body, headers, timeout=20).status
                    except TimeoutError:
                        status = "hangs"
                        fault(method, path, "hangs for 20 s")
                    except (OSError, http.client.HTTPException):
                        status = "dropped"
                    if not keyed and path != "/openapi.json" and status in range(200, 300):
                        fault(method, path, f"answers {status} without a key")
                    counts[status] = counts.get(status, 0) + 1
                    if s.process.poll() is not None:
                        return
            threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            print(f"  service: {sum(counts.values())} calls, {counts}", flush=True)
            if s.process.poll() is not None:
                return fault("the service ended:", s.process.poll(), s.text()[-500:])
            if not counts.get(200):
                fault("no call succeeded")
            try:
                if s.stop(timeout=60) != 0:
                    fault("the service ends with", s.process.returncode, s.text()[-500:])
            except subprocess.TimeoutExpired:
                fault("the service does not stop")
                s.process.kill()


if "--service" not in sys.argv:
    commands(time.time() + SECONDS * 0.7)
if "--commands" not in sys.argv:
    service(SECONDS * 0.3)
print(f"{'test_alloc':28} {1 if not faults else 0} passed, {len(faults)} failed, 0 skipped")
sys.exit(bool(faults))
