"""The single process with --store sqlite:PATH under kills and load, for as many kills as asked: make kills.

KILLS (20): how many. KILLS_PROGRAM: the program instead of the fake engine's, with models/mnist. Every
accepted job must end once, its reply and pictures equal to those of a process that nobody kills."""
import contextlib, http.client, os, random, signal, sqlite3, tempfile, threading, time

import lib
from lib import Server, events, picture

ASYNC = {"Prefer": "respond-async", "Content-Type": "image/png"}
PROGRAM = os.environ.get("KILLS_PROGRAM")
COMBINATIONS = 40
OUTSTANDING = 60 if not PROGRAM else 8  # accepted and not ended: the clients wait while there are more
LIMITS = ["--queue-capacity", "4000", "--client-share", "100", "--client-cost", "0", "--deadline-ms", "3600000",
          "--jobs-max", "2000", "--jobs-age-s", "100000", "--workers", "2"]
CLIENTS = 4


def query(which):
    more = "&steps=2&scale=1" if PROGRAM else "&sampler=obelm&steps=3"
    return f"/counterfactual?do.digit={which % 10}&seed={which}{more}"


def server(*flags, expect=-signal.SIGKILL):
    program = [os.path.abspath(PROGRAM), "serve"] if PROGRAM else None
    models = ["--models", "mnist"] if PROGRAM else []
    return Server(*LIMITS, *models, *flags, program=program, expect=expect, step_ms=5)


def without_run(result):
    """What of a result must be the same in every run."""
    return {k: v for k, v in result.items() if k not in ("id", "timing_ms", "abduction")}


def quiet_results():
    """The reply and the picture of every combination, from a process that nobody disturbs."""
    with server("--store", "memory", expect=0) as s:
        replies = [s.call("POST", query(n), picture(n), {"Content-Type": "image/png", "Prefer": "wait=60"})
                   for n in range(COMBINATIONS)]
        assert [r.status for r in replies] == [200] * COMBINATIONS, replies[0].body
        return [(without_run(r.json), s.get(f"/jobs/{r.json['id']}/images/counterfactual-0.png").body)
                for r in replies]


class Ledger:
    """What was accepted, and what became of it."""

    def __init__(self, path, expected):
        self.path, self.expected, self.lock = path, expected, threading.Lock()
        self.open = {}  # id: combination
        self.ended = []  # (id, reply), the last ones: they must not change any more
        self.starts = []
        self.accepted = self.crashed = self.rechecked = self.sent = 0
        self.faults = []

    def started(self, job):
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            return db.execute("SELECT starts FROM jobs WHERE id=?", (job,)).fetchone()[0]

    def check(self, s, job, which):
        """Whether the job has ended; what is wrong with it is noted."""
        r = s.get("/jobs/" + job)
        if r.status == 200 and r.json["status"] in ("queued", "running"):
            return False
        if r.status != 200 or r.json["status"] != "succeeded":
            if r.status == 200 and r.json.get("problem", {}).get("code") == "job-crashed":
                self.crashed += 1
                return True
            self.faults.append((job, r.status, r.body[:300]))
            return True
        result, image = self.expected[which]
        seen = events(s.get(f"/jobs/{job}/events").body)
        if without_run(r.json["result"]) != result or \
                s.get(f"/jobs/{job}/images/counterfactual-0.png").body != image:
            self.faults.append((job, which, "another result than in a quiet run"))
        if [e[1] for e in seen].count("succeeded") != 1 or [e[0] for e in seen] != sorted({e[0] for e in seen}):
            self.faults.append((job, which, seen))
        self.starts.append(self.started(job))
        self.ended = self.ended[-500:] + [(job, r.json)]
        return True

    def check_some(self, s, chance):
        for job, which in list(self.open.items())[:20]:
            if self.check(s, job, which):
                with self.lock:
                    del self.open[job]
        if self.ended:
            job, reply = chance.choice(self.ended)
            if s.get("/jobs/" + job).json != reply:
                self.faults.append((job, "changed after its end"))
            self.rechecked += 1


def send(s, ledger, stop, index):
    """A client: asynchronous jobs; what was not answered is sent again with its key after the next start."""
    while not stop.is_set():
        if len(ledger.open) >= OUTSTANDING:
            time.sleep(.01)
            continue
        with ledger.lock:
            ledger.sent += 1
            which = ledger.sent % COMBINATIONS
        key = f"{index} {ledger.sent} {random.random()}"
        try:
            r = s.call("POST", query(which), picture(which), dict(ASYNC, **{"Idempotency-Key": key}))
        except (OSError, http.client.HTTPException):
            return
        if r.status == 202:
            with ledger.lock:
                ledger.open[r.json["id"]] = which
                ledger.accepted += 1
        elif r.status not in (429, 503):
            ledger.faults.append((r.status, r.body[:300]))


def watch(s, ledger, stop, chance):
    with contextlib.suppress(OSError, http.client.HTTPException):
        while not stop.is_set():
            ledger.check_some(s, chance)
            time.sleep(.01)


def test_kills_of_the_single_process():
    kills = int(os.environ.get("KILLS", "20"))
    chance, expected, begin = random.Random(kills), quiet_results(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="diffscm-store-") as folder:
        ledger = Ledger(folder + "/jobs.db", expected)
        store = ["--store", "sqlite:" + ledger.path]
        for turn in range(kills):
            with server(*store) as s:
                stop = threading.Event()
                threads = [threading.Thread(target=send, args=(s, ledger, stop, i)) for i in range(CLIENTS)]
                threads.append(threading.Thread(target=watch, args=(s, ledger, stop, random.Random(turn))))
                for t in threads:
                    t.start()
                time.sleep(chance.uniform(.02, 2))
                s.process.kill()
                s.process.wait()
                stop.set()
                for t in threads:
                    t.join()
            assert not ledger.faults, ledger.faults[:3]
            if turn % 50 == 49:
                report(turn + 1, ledger, begin)
        with server(*store, expect=0) as s:
            lib.until(lambda: ledger.check_some(s, chance) or not ledger.open, "all jobs end")
            assert not ledger.faults, ledger.faults[:3]
        with contextlib.closing(sqlite3.connect(ledger.path)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            assert db.execute("SELECT count(*) FROM jobs WHERE state IN ('queued','running')").fetchone()[0] == 0
        report(kills, ledger, begin)
        interrupted = [n for n in ledger.starts if n > 1]
        assert len(ledger.starts) + ledger.crashed == ledger.accepted >= kills, len(ledger.starts)
        often = sum(n > 2 for n in interrupted) + ledger.crashed
        assert kills < 200 or often <= .05 * len(interrupted), (often, len(interrupted))


def report(kills, ledger, begin):
    interrupted = [n for n in ledger.starts if n > 1]
    print(f"  {kills} kills in {time.monotonic() - begin:.0f} s: {ledger.accepted} accepted, {len(ledger.starts)} "
          f"succeeded with the result of a quiet run, {ledger.crashed} given up after five crashes, "
          f"{len(ledger.open)} open; {len(interrupted)} interrupted, {sum(n > 2 for n in interrupted)} of them "
          f"started three times or more; {ledger.rechecked} looked at again and unchanged", flush=True)
