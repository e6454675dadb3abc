"""Jobs that outlive the process: --store sqlite:PATH under kills, stops, full disks and bad files."""
import contextlib, os, random, signal, sqlite3, tempfile, threading, time

import lib
from lib import Server, events, picture, until

ASYNC = {"Prefer": "respond-async"}
KILLED = -signal.SIGKILL


@contextlib.contextmanager
def store():
    with tempfile.TemporaryDirectory(prefix="diffscm-store-") as folder:
        yield ["--store", "sqlite:" + os.path.join(folder, "jobs.db")]


def path_of(flags):
    return flags[1][len("sqlite:"):]


def kill(server):
    """kill -9, of which the context manager then finds the exit status it expects."""
    server.expect = KILLED
    server.process.kill()
    server.process.wait()


def accept(server, seed=0, value=0, steps=2, headers=None, **more):
    r = server.post(f"do.digit=8&seed={seed}&sampler=obelm&steps={steps}",
                    dict(ASYNC, **(headers or {})), picture(value), **more)
    assert r.status == 202, (r.status, r.body)
    return r.json["id"]


def ended(server, job):
    return until(lambda: (lambda v: v if v["status"] in ("succeeded", "failed", "canceled") else None)
                 (server.get("/jobs/" + job).json), f"job {job} ends")


def row(flags, job):
    with contextlib.closing(sqlite3.connect(path_of(flags))) as db:
        return db.execute("SELECT state, starts, deaths, request IS NULL FROM jobs WHERE id=?",
                          (job,)).fetchone()


def not_promised(flags):
    """The id of a job of the file whose client was told nothing yet, or None."""
    with contextlib.closing(sqlite3.connect(path_of(flags))) as db:
        found = db.execute("SELECT id FROM jobs WHERE promised=0").fetchone()
        return found and found[0]


def test_accepted_jobs_survive_a_kill():
    with store() as flags:
        with Server("--workers", "1", *flags, gate=True) as s:
            jobs = [accept(s, value=i, steps=2 + i) for i in range(4)]
            s.wait_state(jobs[0], "running")
            kill(s)
        assert os.stat(path_of(flags)).st_mode & 0o777 == 0o600
        with Server("--workers", "1", *flags) as s:
            for job in jobs:
                assert ended(s, job)["status"] == "succeeded"
                assert s.get(f"/jobs/{job}/images/counterfactual-0.png").status == 200
            # The ids of the second run are larger than any that the first may have sent.
            seen = events(s.get(f"/jobs/{jobs[0]}/events").body)
            assert [e[1] for e in seen[:2]] == ["queued", "started"], seen
            assert seen[1][0] == 1000001 and seen[-1][1] == "succeeded", seen
            assert s.metric("diffscm_jobs_interrupted_total") == 1
        assert row(flags, jobs[0]) == ("succeeded", 2, 1, 1)
        assert row(flags, jobs[3]) == ("succeeded", 1, 0, 1)


def test_results_and_keys_survive_a_kill():
    key = {"Idempotency-Key": "once"}
    with store() as flags:
        with Server(*flags) as s:
            first = s.post("do.digit=8&seed=1", key, picture(3))
            assert first.status == 200
            job = first.json["id"]
            image = s.get(f"/jobs/{job}/images/counterfactual-0.png")
            told = s.get(f"/jobs/{job}/events").body
            bad = s.post("do.digit=8&seed=666", ASYNC, picture(3)).json["id"]
            failed = ended(s, bad)
            kill(s)
        with Server(*flags) as s:
            assert s.get("/jobs/" + job).json["result"] == first.json
            again = s.get(f"/jobs/{job}/images/counterfactual-0.png")
            assert again.body == image.body and again.headers["etag"] == image.headers["etag"]
            assert s.post("do.digit=8&seed=1", key, picture(3)).body == first.body
            png = s.post("do.digit=8&seed=1", dict(key, Accept="image/png"), picture(3))
            assert png.body == image.body and "x-counterfactual-scale" in png.headers, png.headers
            s.post("do.digit=8&seed=2", key, picture(3)).problem(422, "idempotency-mismatch")
            assert events(s.get(f"/jobs/{job}/events").body)[-1] == events(told)[-1]
            assert s.get("/jobs/" + bad).json["problem"] == failed["problem"]
            assert s.metric("diffscm_jobs_started_total") == 0


def test_cancels_and_departures_survive_a_kill():
    with store() as flags:
        with Server("--workers", "1", *flags, gate=True) as s:
            running = accept(s)
            s.wait_state(running, "running")
            queued = accept(s, value=1)
            r = s.call("DELETE", "/jobs/" + queued)
            assert r.json["status"] == "canceled", r.json
            def wait_in_vain():
                with contextlib.suppress(OSError, lib.http.client.HTTPException):
                    s.post(headers={"Prefer": "wait=60"}, body=picture(2))
            left = threading.Thread(target=wait_in_vain)
            left.start()
            waiting = until(lambda: not_promised(flags), "the third job is in the file")
            kill(s)
            left.join()
        with Server("--workers", "1", *flags) as s:
            assert s.get("/jobs/" + queued).json["status"] == "canceled"
            assert ended(s, running)["status"] == "succeeded"
            gone = ended(s, waiting)
            assert (gone["status"], gone["reason"]) == ("canceled", "disconnect"), gone
        assert row(flags, queued)[3] == 1, "a canceled job leaves no picture behind"


def test_a_202_after_a_wait_is_a_promise():
    with store() as flags:
        with Server("--workers", "1", *flags, gate=True) as s:
            r = s.post(headers={"Prefer": "wait=0"})
            assert r.status == 202, r.status
            kill(s)
        with Server(*flags) as s:
            assert ended(s, r.json["id"])["status"] == "succeeded"


def test_abductions_are_inferred_again():
    with store() as flags:
        with Server(*flags) as s:
            kept = s.post("sampler=obelm&steps=4&ratio=1", None, picture(9),
                          "/abductions").json["abduction"]["id"]
            other = s.post("sampler=obelm&steps=4&ratio=1", None, picture(10),
                           "/abductions").json["abduction"]["id"]
            kill(s)
        with Server(*flags) as s:
            ask = {"abduction": kept, "intervention": {"digit": 8},
                   "options": {"sampler": "obelm", "steps": 4, "ratio": 1}}
            r = s.post_json(ask)
            assert r.status == 200 and r.json["abduction"]["id"] == kept, r.body
            assert s.post_json(ask).status == 200
            assert s.metric("diffscm_abduction_misses_total") == 1
            wrong = dict(ask, options={"sampler": "obelm", "steps": 5, "ratio": 1})
            s.post_json(wrong).problem(422, "invalid-parameter")
            assert s.call("DELETE", "/abductions/" + other).status == 204
            s.post_json(dict(ask, abduction=other)).problem(422, "unknown-abduction")
            s.call("DELETE", "/abductions/" + other).problem(404, "not-found")


def test_a_job_that_kills_the_process_takes_nobody_along():
    with store() as flags:
        flags += ["--workers", "2"]
        with Server(*flags, gate=True) as s:
            good = [accept(s, value=i, steps=3 + i) for i in range(3)]
            s.expect = None
            bad = accept(s, seed=667, value=9)
            s.open_gate()
            s.process.wait()
        for attempt in range(8):
            try:
                with Server(*flags) as s:
                    s.expect = None
                    until(lambda: s.process.poll() is not None or
                          s.get("/jobs/" + bad).json["status"] == "failed", "an end of either")
                    if s.process.poll() is None:
                        state = s.get("/jobs/" + bad).json
                        break
            except AssertionError as error:  # it died before it could say that it is ready
                assert "did not start" in str(error), error
        assert state["status"] == "failed" and state["problem"]["code"] == "job-crashed", state
        assert row(flags, bad)[1:3] == (5, 5)
        with Server(*flags) as s:
            for job in good:
                assert ended(s, job)["status"] == "succeeded"
                assert row(flags, job)[2] <= 2, row(flags, job)


def test_what_expired_stays_expired():
    with store() as flags:
        with Server("--jobs-age-s", "1", *flags) as s:
            job = s.post().json["id"]
            until(lambda: s.get("/jobs/" + job).status == 410, "the job expires")
            until(lambda: row(flags, job)[0] == "expired", "that is written")
            kill(s)
        with Server(*flags) as s:
            s.get("/jobs/" + job).problem(410, "expired")


def test_a_stop_leaves_promised_jobs_for_the_next_start():
    with store() as flags:
        with Server("--workers", "1", "--drain-s", "0", *flags, gate=True) as s:
            jobs = [accept(s, value=i, steps=2 + i) for i in range(3)]
            s.wait_state(jobs[0], "running")
            assert s.stop() == 0
        assert [row(flags, j)[0] for j in jobs] == ["queued"] * 3
        with Server(*flags) as s:
            assert [ended(s, j)["status"] for j in jobs] == ["succeeded"] * 3
            assert s.metric("diffscm_jobs_interrupted_total") == 0
        assert row(flags, jobs[0])[2] == 0, "a stop is no death"


def test_a_deadline_counts_on_while_the_service_is_down():
    with store() as flags:
        with Server("--workers", "1", *flags, gate=True) as s:
            job = s.post("do.digit=8&deadline_ms=60000", ASYNC).json["id"]
            kill(s)
        with contextlib.closing(sqlite3.connect(path_of(flags))) as db:
            db.execute("UPDATE jobs SET created = created - 61")
            db.commit()
        with Server(*flags) as s:
            state = ended(s, job)
            assert (state["status"], state["reason"]) == ("canceled", "deadline"), state


def test_a_clock_that_was_set_back_changes_nothing():
    with store() as flags:
        with Server("--workers", "1", *flags) as s:
            done = s.post("do.digit=8&seed=1").json["id"]
            kill(s)
        with Server("--workers", "1", *flags, gate=True) as s:
            job = s.post("do.digit=8&deadline_ms=60000", ASYNC).json["id"]
            s.wait_state(job, "running")
            kill(s)
        for shift in (86400, -86400 * 2):  # written by a clock a day ahead; then one a day behind
            with contextlib.closing(sqlite3.connect(path_of(flags))) as db:
                db.execute("UPDATE jobs SET created = created + ?, finished = finished + ?", (shift, shift))
                db.commit()
            with Server("--workers", "1", *flags) as s:
                r = s.get("/jobs/" + done)
                assert (r.status == 200 and r.json["status"] == "succeeded") or r.status == 410, r.body
                assert r.status == 200 or shift < 0, "a result from the future is not too old"
                if shift > 0:
                    assert ended(s, job)["status"] == "succeeded", "never less than its deadline"
                assert s.post("do.digit=8&seed=2").status == 200
        assert row(flags, job)[0] in ("succeeded", "expired")


def test_a_full_disk_refuses_and_recovers_nothing_lost():
    with store() as flags:
        limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 300; exec "$@"', "bash",
                   lib.PROGRAM, "--serve"]
        big = lib.chunk(b"teSt", os.urandom(30000))
        accepted = []
        with Server("--workers", "1", *flags, program=limited) as s:
            for i in range(40):
                r = s.post(f"do.digit=8&seed={i}&steps=1", ASYNC, picture(i, extra=big))
                if r.status != 202:
                    break
                accepted.append(r.json["id"])
            r.problem(503, "store-unavailable")
            assert int(r.headers["retry-after"]) >= 1 and accepted
            assert s.admin("/livez").status == 200
            s.logged(1, event="store", level="error")
            for job in accepted:
                assert ended(s, job)["status"] == "succeeded"
            kill(s)
        with Server(*flags) as s:
            for job in accepted:
                assert ended(s, job)["status"] == "succeeded"


def test_files_that_are_no_store_are_refused():
    with store() as flags:
        with Server(*flags) as s:
            second = lib.subprocess.run([lib.PROGRAM, "--serve", "--port", "0", "--admin-port", "0",
                                         *flags], capture_output=True, text=True)
            assert second.returncode == 1 and "another process" in second.stderr, second
        with contextlib.closing(sqlite3.connect(path_of(flags))) as db:
            db.execute("PRAGMA application_id=7")
            db.commit()
        for value, words in [(flags[1], "not made by diffscm"), ("sqlite:", "allowed are"),
                             ("files", "allowed are"), ("sqlite:/nowhere/x", "cannot open")]:
            r = lib.subprocess.run([lib.PROGRAM, "--serve", "--port", "0", "--admin-port", "0",
                                    "--store", value], capture_output=True, text=True)
            assert r.returncode == 1 and words in r.stderr, (value, r.stderr)


def test_kills_under_load_lose_nothing():
    """Kills at random moments; SOAK_KILLS in the environment asks for more than a test run has."""
    kills = int(os.environ.get("SOAK_KILLS", "6"))
    chance, crashed = random.Random(kills), 0
    jobs, lock = {}, threading.Lock()
    with store() as flags:
        flags += ["--queue-capacity", "4000", "--client-share", "100",
                  "--deadline-ms", "3600000", "--jobs-max", "100000", "--jobs-age-s", "100000"]
        for turn in range(kills):
            with LoadedServer(flags, jobs, lock, turn) as s:
                time.sleep(chance.uniform(.02, .3))
                kill(s)
        with Server(*flags, step_ms=1, expect=0) as s:
            for seed, job in sorted(jobs.items()):
                state = ended(s, job)
                assert state["status"] == "succeeded" or state["problem"]["code"] == "job-crashed"
                crashed += state["status"] == "failed"
                assert state["status"] != "succeeded" or state["result"]["replay"]["seed"] == seed
        with contextlib.closing(sqlite3.connect(path_of(flags))) as db:
            counts = dict(db.execute("SELECT id, starts FROM jobs"))
            assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        interrupted = [counts[j] for j in jobs.values() if counts[j] > 1]
        often = sum(1 for n in interrupted if n > 2)
        print(f"  {kills} kills, {len(jobs)} accepted, {len(interrupted)} interrupted, "
              f"{often} of them started three times or more, {crashed} given up after five", flush=True)
        assert len(jobs) > kills


class LoadedServer(Server):
    """A server that four clients send asynchronous jobs to as soon as it is ready."""

    def __init__(self, flags, jobs, lock, turn):
        super().__init__("--port", "0", *flags, step_ms=1, expect=KILLED)
        self.jobs, self.lock, self.turn = jobs, lock, turn

    def __enter__(self):
        super().__enter__()
        self.threads = [threading.Thread(target=self.send, args=(i,)) for i in range(4)]
        for t in self.threads:
            t.start()
        return self

    def send(self, index):
        for i in range(100000):
            seed = self.turn * 1000000 + index * 100000 + i
            try:
                r = self.post(f"do.digit=8&seed={seed}&sampler=obelm&steps=3", ASYNC,
                              picture(i % 200))
            except Exception:
                return
            if r.status == 202:
                with self.lock:
                    self.jobs[seed] = r.json["id"]

    def __exit__(self, *args):
        for t in self.threads:
            t.join()
        return super().__exit__(*args)
