"""Allocations that fail: the n-th of every command, and some of a thousand under load.

usage: run.py PROGRAM FAILING.so TEST_HTTP [--commands | --routes | --service] [--whole] [--seconds N] [--only WORDS]

A command may succeed or end with 1 or 2 and a message; a signal, a hang (30 s), silence about a failure, a
success with other files or other words than without failures, or a file that is not the whole one beside a
failure is a fault. (What two runs without failures give alike is compared.) --only: the commands that begin
with these words. The service (on the fake engine) may refuse and drop calls, but must neither
end nor hang nor answer 2xx without a key, and its accounts must be even once all is over. A sample of n fits
into CI: of a command, one allocation of each way (chain of calling functions) that leads to one, as many as the
time suffices for; --ways tries all of these, --whole every n."""
import hashlib, http.client, json, mmap, os, random, re, shutil, struct, subprocess, sys, tempfile, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "http"))
import lib

PROGRAM, FAILING, SERVER = map(os.path.abspath, sys.argv[1:4])
WHOLE, WAYS = "--whole" in sys.argv, "--ways" in sys.argv
ONLY = sys.argv[sys.argv.index("--only") + 1] if "--only" in sys.argv else ""
SECONDS = int(sys.argv[sys.argv.index("--seconds") + 1]) if "--seconds" in sys.argv else 90
faults = []


def fault(*words):
    faults.append(" ".join(map(str, words)))
    print("  FAIL", faults[-1], flush=True)


def run(command, nth, noted=None, folder=None):
    """noted: a folder for the number of allocations (count) and the way that led to each (callers)."""
    env = dict(os.environ, LD_PRELOAD=os.path.abspath(FAILING), FAILING_NTH=str(nth),
               OPENBLAS_NUM_THREADS="1")
    if noted:
        env.update(FAILING_COUNT=os.path.join(noted, "count"), FAILING_CALLERS=os.path.join(noted, "callers"))
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


def ways(folder):
    """An allocation of each way that leads to one, at random, in the order of their first ones."""
    with open(os.path.join(folder, "callers"), "rb") as f:
        hashes = [way for way, in struct.iter_unpack("=Q", f.read())]
    every = {}
    for n, way in enumerate(hashes, 1):
        every.setdefault(way, []).append(n)
    return [random.choice(some) for some in every.values()]


def written(folder, leaves):
    """{file: its hash} of all that a command left; the memory that a report says it took is another each time."""
    found = {}
    for name in leaves:
        path = os.path.join(folder, name)
        inside = [os.path.join(at, one) for at, _, names in os.walk(path) for one in names]
        for one in inside or ([path] if os.path.isfile(path) else []):
            with open(one, "rb") as f:
                text = re.sub(rb"[0-9.]+ MB at most", b"", f.read())
                found[os.path.relpath(one, folder)] = hashlib.sha256(text).hexdigest()
    return found


def other_files(got, want):
    return sorted(name for name in want if got.get(name) != want[name])


def command(words, until, folder, leaves=(), begins=None):
    """begins: the folder that the only one of leaves is a copy of before each run."""
    def fresh():
        for name in leaves:  # a run that finds these goes on there
            path = os.path.join(folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)
            if begins:
                shutil.copytree(os.path.join(folder, begins), path)
    fresh()
    before = written(folder, leaves)
    whole = run(words, 0, folder, folder)
    if whole is None or whole.returncode != 0:
        return fault(words, "fails without any failing allocation", whole and whole.stderr)
    total, tried = int(open(os.path.join(folder, "count")).read()), 0
    first = written(folder, leaves)
    fresh()
    second, again = run(words, 0, None, folder), written(folder, leaves)
    known = {name: value for name, value in first.items() if again.get(name) == value}
    said = whole.stdout == second.stdout
    chosen = range(1, total + 1) if WHOLE else ways(folder)
    if not WHOLE and not WAYS:
        random.shuffle(chosen)  # the time may not suffice for all of them
    for n in chosen:
        if time.time() > until:
            break
        tried += 1
        fresh()
        done = run(words, n, None, folder)
        if done is None:
            fault(words, f"allocation {n} of {total}: hangs")
        elif done.returncode < 0 or done.returncode not in (0, 1, 2):
            fault(words, f"allocation {n} of {total}: exit {done.returncode}", done.stderr[-300:])
        elif done.returncode and not done.stderr.strip():
            fault(words, f"allocation {n} of {total}: exit {done.returncode} without a word")
        elif done.returncode == 0:
            got = written(folder, leaves)
            if other_files(got, known) or set(got) != set(first):
                fault(words, f"allocation {n} of {total}: exit 0 with other files:",
                      *other_files(got, known), *set(got) ^ set(first))
            if said and done.stdout != whole.stdout:
                fault(words, f"allocation {n} of {total}: exit 0 with other words:", done.stdout[-300:])
        else:
            part = {name: value for name, value in written(folder, leaves).items()
                    if name in known and not name.endswith(GROWING)}
            other = [name for name, value in part.items() if value not in (known[name], before.get(name))]
            if other:
                fault(words, f"allocation {n} of {total}: exit {done.returncode} leaves another", *other)
    print(f"  {' '.join(words)[:60]}: {tried} of {total} allocations ({len(chosen)} chosen), "
          f"{len(known)} of {len(first)} files compared", flush=True)


def tiny_data(folder):
    """16 images of 8x8 of two classes to learn from, 24 to look at, and a table of two variables."""
    chance = random.Random(1)
    os.mkdir(os.path.join(folder, "set"))
    for split, count in (("train", 16), ("t10k", 24)):
        with open(os.path.join(folder, "set", split + "-images-idx3-ubyte"), "wb") as f:
            f.write(struct.pack(">IIII", 0x803, count, 8, 8) + bytes(chance.randrange(256) for _ in range(count * 64)))
        with open(os.path.join(folder, "set", split + "-labels-idx1-ubyte"), "wb") as f:
            f.write(struct.pack(">II", 0x801, count) + bytes(i % 2 for i in range(count)))
    with open(os.path.join(folder, "table.csv"), "w") as f:
        f.write("a,b\n" + "".join(f"{i % 7},{2 * (i % 7) + chance.random()}\n" for i in range(40)))


GROWING = (".ck", ".bin", ".f32", ".dat")  # what a run goes on from, or makes anew for gnuplot
TRAIN = "--data set --samples 8 --batch 8 --mult 1 --channels 32 --threads 1".split()
# What makes a model of one's own, in this order; with what a run leaves that the next would go on from.
MAKING = [(["train", "score", *TRAIN, "--out", "score.st", "--checkpoint", "score.ck"], ["score.st", "score.ck"]),
          (["train", "predictor", *TRAIN, "--out", "predictor.st"], ["predictor.st"]),
          ("bundle --out own --name own --licence MIT --score score.st --predictor predictor.st --variable kind --labels b,c".split(),
           ["own"]),
          ("calibrate --model own --data set --split t10k --references train --limit 10 --familiarity-limit 2 --threads 1 "
           "--out found.json".split(), ["found.json", "found.safetensors"]),
          ("bundle --out own2 --measured found.json".split(), ["own2"], "own"),
          (["fit", "--table", "table.csv", "--graph", "a -> b", "--out", "fit.json"], ["fit.json"]),
          ("counterfactual --model own --images set/t10k-images-idx3-ubyte --targets set/t10k-labels-idx1-ubyte --steps 2 "
           "--scale 1 --limit 2 --threads 1 --out z --scores scores".split(), ["z", "scores"]),
          ("evaluate --model own --data set --split t10k --pool-split train --limit 20 --report report --quick --no-sheets "
           "--no-cost --methods ours --study-limit 1 --threads 1 --frontier".split() + [""], ["report"])]


def commands(until):
    model = os.path.join(ROOT, "models", "mnist")
    with tempfile.TemporaryDirectory() as folder:
        tiny_data(folder)
        with open(os.path.join(folder, "7.png"), "wb") as f:
            f.write(lib.picture(0))
        every = [["--version"], ["--help"], ["info", model], ["serve", "--print-config"], ["--man"],
                 ["--completion", "bash"],
                 ["sample", "--model", model, "--steps", "2", "--count", "1", "-o", "s.png"],
                 ["counterfactual", "7.png", "--model", model, "--do", "digit=8", "--scale", "1",
                  "--steps", "2", "-o", "o.png"]]
        every = [(words, [words[words.index("-o") + 1]] if "-o" in words else []) for words in every] + MAKING
        every = [(words, *rest) for words, *rest in every if rest[0] or " ".join(words).startswith(ONLY)]
        left = sum(" ".join(words).startswith(ONLY) for words, *_ in every)
        for words, leaves, *begins in every:
            if not " ".join(words).startswith(ONLY):
                run(words, 0, None, folder)  # the next ones need it
                continue
            command(words, time.time() + (until - time.time()) / left, folder, leaves, *begins)
            left -= 1
            if leaves and not os.path.exists(os.path.join(folder, leaves[0])):
                run(words, 0, None, folder)  # the next ones need it


CALLS = [("GET", "/models", None, {}), ("GET", "/openapi.json", None, {}),
         ("POST", "/samples", b"", {}), ("GET", "/jobs/" + "0" * 32, None, {}),
         ("POST", "/counterfactual?do.digit=8", lib.picture(), {"Content-Type": "image/png"}),
         ("POST", "/counterfactual?do.digit=8", lib.picture(),
          {"Content-Type": "image/png", "Accept": "text/event-stream"}),
         ("POST", "/abductions", lib.picture(), {"Content-Type": "image/png", "Prefer": "respond-async"}),
         ("POST", "/counterfactual", json.dumps({"image": lib.picture64(), "intervention": {"digit": 1}}),
          {"Content-Type": "application/json", "Idempotency-Key": "k"}),
         ("DELETE", "/jobs/" + "1" * 32, None, {})]
FORM = (b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + lib.picture() +
        b'\r\n--x\r\nContent-Disposition: form-data; name="do.digit"\r\n\r\n8\r\n--x--\r\n')
ROUTES = CALLS + [("GET", "/", None, {}), ("GET", "/models/fake", None, {}), ("GET", "/nowhere", None, {}),
                  ("OPTIONS", "/samples", None, {"Origin": "http://a.example"}),
                  ("POST", "/counterfactual", FORM, {"Content-Type": "multipart/form-data; boundary=x"}),
                  ("POST", "/counterfactual", "{", {"Content-Type": "application/json"})]
FREE = ("/", "/openapi.json") # served without a key


def keys_file(folder):
    path = os.path.join(folder, "keys")
    with open(path, "w") as f:
        f.write("a " + __import__("hashlib").sha256(b"key").hexdigest() + "\n")
    return path


UNEVEN = {"queue_position", "estimate_ms", "step", "steps", "fraction", "status", "result", "reason", "problem"}


def shape(value):
    """The keys of JSON and the kinds of its values, without what depends on how far a job is."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items() if "work" not in value or key not in UNEVEN}
    return [shape(one) for one in value] if isinstance(value, list) else type(value).__name__


def result(body):
    """The keys of the data of an event stream's result; None: it has none, since the job failed."""
    for event in body.decode().split("\n\n"):
        if "event: succeeded\n" in event:
            return shape(json.loads("".join(line[6:] for line in event.split("\n") if line.startswith("data: "))))
    return None


def same_reply(got, want):
    """Bodies say the same as far as they are not of this one call. Headers may be left out."""
    kind = want.headers.get("content-type", "")
    if "json" in kind:
        return shape(json.loads(got.body)) == shape(json.loads(want.body))
    if kind == "text/event-stream":
        return result(got.body) in (None, result(want.body))
    return got.body == want.body if kind.startswith("text/html") else bool(got.body) == bool(want.body)


def even_accounts(s):
    """Nothing is held for calls that are over; waited for, because jobs may still end."""
    for name in ("diffscm_body_bytes", "diffscm_workers_busy", "diffscm_queue_depth"):
        try:
            lib.until(lambda: s.metric(name) == 0, name)
        except AssertionError:
            fault(name, "is", s.metric(name), "when all is over")


def routes(until):
    """The n-th allocation of the service after a call of every route began, with and without the key."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "control")
        with open(path, "w+b") as f:
            f.write(bytes(16))
            f.flush()
            control = mmap.mmap(f.fileno(), 16)

        def call(s, method, route, body, headers, nth):
            struct.pack_into("=QQ", control, 0, 0, nth)
            try:
                return s.call(method, route, body, headers, timeout=20)
            except TimeoutError:
                fault(method, route, f"allocation {nth}: hangs for 20 s")
            except (OSError, http.client.HTTPException):
                pass
            finally:
                struct.pack_into("=Q", control, 8, 0)
        lib.PROGRAM = os.path.abspath(SERVER)
        env = {"LD_PRELOAD": os.path.abspath(FAILING), "FAILING_CONTROL": path}
        with lib.Server("--keys-file", keys_file(folder), step_ms=0, env=env, expect=None) as s:
            every = [(*r[:3], dict(r[3], **key)) for r in ROUTES
                     for key in ({}, {"Authorization": "Bearer key"})]
            tried, counts = 0, {}
            for i, (method, route, body, headers) in enumerate(every):
                end = time.time() + (until - time.time()) / (len(every) - i)
                usual = call(s, method, route, body, headers, 0)
                total = struct.unpack_from("=Q", control, 0)[0]
                for n in sample(total, 80):
                    if time.time() > end:
                        break
                    tried += 1
                    reply = call(s, method, route, body, headers, n)
                    status = reply.status if reply else "dropped"
                    if reply and usual and status == usual.status < 400 and not same_reply(reply, usual):
                        fault(method, route, f"allocation {n} of {total}: {status} with another reply:",
                              reply.body[-300:], "instead of", usual.body[-300:])
                    if reply and usual and usual.status < 400 and status in range(400, 500) and status != 429:
                        fault(method, route, f"allocation {n} of {total}: {status} blames the client:",
                              reply.body[-300:])
                    counts[status] = counts.get(status, 0) + 1
                    if s.process.poll() is not None:
                        return fault(method, route, f"allocation {n} of {total} ends the service:",
                                     s.process.poll(), s.text()[-500:])
                    keyed = "Authorization" in headers
                    if not keyed and method != "OPTIONS" and route not in FREE and status in range(200, 300):
                        fault(method, route, f"allocation {n}: answers {status} without a key")
                last = call(s, method, route, body, headers, 0)
                if not last or not usual or last.status != usual.status:
                    fault(method, route, "answers otherwise than before allocations failed")
            print(f"  routes: {tried} allocations of {len(every)} calls, {counts}", flush=True)
            even_accounts(s)
            if s.stop(timeout=60) != 0:
                fault("the service ends with", s.process.returncode, s.text()[-500:])


def service(seconds):
    """One in a hundred allocations of a running service fails."""
    with tempfile.TemporaryDirectory() as folder:
        keys, gate = keys_file(folder), os.path.join(folder, "gate")
        lib.PROGRAM = os.path.abspath(SERVER)
        env = {"LD_PRELOAD": os.path.abspath(FAILING), "FAILING_PERMILLE": "10",
               "FAILING_AFTER": gate}
        with lib.Server("--keys-file", keys, "--client-share", "100",
                        step_ms=1, env=env, expect=None) as s:
            counts, end = {}, time.time() + seconds
            open(gate, "w").close()
            def load(seed):
                chance = random.Random(seed)
                while time.time() < end:
                    method, path, body, headers = chance.choice(CALLS)
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


PARTS = [p for p in ("--commands", "--routes", "--service") if p in sys.argv] or \
    ["--commands", "--routes", "--service"]
for part in PARTS:
    share = SECONDS / len(PARTS)
    if part == "--commands":
        commands(time.time() + share)
    elif part == "--routes":
        routes(time.time() + share)
    else:
        service(share)
print(f"{'test_alloc':28} {1 if not faults else 0} passed, {len(faults)} failed, 0 skipped")
sys.exit(bool(faults))
