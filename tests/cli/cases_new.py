"""diffscm new: a folder of pictures becomes a model that answers; killed at any moment, it goes on to the
same one; more samples go on from it."""
import json, os, random, shutil, signal, struct, subprocess, time, zlib

from waiting import killed_after


def cases(program, root, refused, run, path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def picture(name, size, at, seed):
        """A bright bar on dark ground; `at`: its first row."""
        rows = b"".join(b"\0" + bytes([220 if at <= y < at + 4 else 30 + (x * y * seed) % 19 for x in range(size)])
                        for y in range(size))
        with open(name, "wb") as f:
            f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)) +
                    chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

    def pictures():
        for label, first in (("above", 1), ("below", 7)):
            os.makedirs(path(f"bars/{label}"), exist_ok=True)
            for i in range(40):
                picture(path(f"bars/{label}/{i:02}.png"), 12, first + i % 2, 1 + i)

    def manifest(folder):
        with open(path(folder + "/manifest.json")) as f:
            return json.load(f)

    def new(folder, samples):
        return [program, "new", "--data", path("bars"), "--variable", "place", "--samples", str(samples),
                "--threads", "1", "--out", path(folder)]

    def finished(folder, samples):
        done = subprocess.run(new(folder, samples), capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return done

    def test_new_makes_a_model_and_goes_on_after_kills():
        pictures()
        first = finished("bars-1", 640)
        assert "classes: above 40, below 40" in first.stderr and "plan: 80 images" in first.stderr, first.stderr
        assert f"diffscm serve --models {path('bars-1')}" in first.stdout, first.stdout
        m = manifest("bars-1")
        assert m["variables"][0]["name"] == "place" and m["licence"] == "not stated", m
        assert m["variables"][0]["labels"] == ["above", "below"], m
        assert m["defaults"]["scale"] == "auto" and len(m["acceptance"]) == 2, m
        assert len(m["panel"]["classifiers"]) == 2 and m["quality"]["samples"] == 640, m
        # So short a training does not make a good model, which is told; the judges learn bars at once.
        assert m["quality"]["poor"] is True and "longer training" in m["quality"]["would_help"], m["quality"]
        assert m["quality"]["panel_accuracy"] > 0.9 and m["quality"]["null_l1_255"] <= 0.5, m["quality"]
        assert "**Poor**" in open(path("bars-1/card.md")).read()
        code, out, err = run("counterfactual", path("bars/above/00.png"), "--model", path("bars-1"),
                             "--do", "place=below", "--out", path("bar.png"), "--threads", "1")
        assert code == 0 and os.path.exists(path("bar.png")), err
        again = finished("bars-1", 640)  # nothing is left to do, and it says so
        assert "is ready" in again.stdout and "[1/" not in again.stderr, again.stderr
        # The same command again, killed at ten moments of its way.
        draw = random.Random(3)
        kills = 0
        while kills < 10 and killed_after(new("bars-2", 640), draw.uniform(0.2, 2.5)):
            kills += 1
        finished("bars-2", 640)
        assert manifest("bars-2")["files"] == m["files"]
        assert manifest("bars-2")["quality"] == m["quality"]

    def test_new_goes_on_to_more_samples():
        assert os.path.exists(path("bars-2/manifest.json")), "needs the case before"
        before = manifest("bars-2")
        # What a bundle command that was killed leaves goes away with the rest.
        unfinished = [path(f"bars-2.work/bundle-{n}/.1.tmp") for n in (800, 960)]
        for folder in unfinished:
            os.makedirs(folder)
            with open(os.path.join(folder, "score.safetensors"), "w"):
                pass
        done = finished("bars-2", 960)
        assert not os.path.exists(path("bars-2/.1.tmp"))
        assert "score: " in done.stderr or "[10/" in done.stderr, done.stderr
        after = manifest("bars-2")
        assert after["quality"]["samples"] == 960, after["quality"]
        assert after["files"]["score.safetensors"] != before["files"]["score.safetensors"]
        assert after["files"]["predictor.safetensors"] == before["files"]["predictor.safetensors"]
        assert not [f for f in os.listdir(path("bars-2.work")) if f.startswith("bundle-")]
        refused(new("bars-2", 700)[1:], 2, "--samples 700", "can only be raised")

    def test_new_shortens_a_late_plan():
        pictures()
        late = [program, "new", "--data", path("bars"), "--variable", "place", "--time-limit", "1000s",
                "--threads", "1", "--out", path("late")]
        plan = path("late.work/plan.json")
        p = subprocess.Popen(late, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            for _ in range(3000):
                if os.path.exists(plan):
                    break
                time.sleep(0.1)
        finally:
            os.kill(p.pid, signal.SIGKILL)
            p.wait()
        with open(plan) as f:
            planned = json.load(f)
        long = planned["stages"][-1]["samples"]
        assert planned["stages"][-1]["name"] == "score" and long > 640 and planned["seconds"] == 1000, planned
        # The time is over before anything was trained: every network keeps its twenty steps.
        planned["used"] = 990
        with open(plan, "w") as f:
            json.dump(planned, f)
        done = subprocess.run(late, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0 and "late: " in done.stderr, done.stderr
        with open(plan) as f:
            short = json.load(f)
        assert {s["samples"] // s["batch"] for s in short["stages"]} == {20}, short["stages"]
        assert short["measured"] <= planned["measured"] and short["used"] > 990, short
        assert manifest("late")["quality"]["samples"] == 640 < long
        # So short a plan is stored: the same command finds everything done, and more samples are allowed.
        again = subprocess.run(late, capture_output=True, text=True, timeout=500)
        assert again.returncode == 0 and "late: " not in again.stderr and "is ready" in again.stdout, again.stderr

    def without_score(name, **changes):
        """The finished run of the late plan under another name, its score network still to be trained."""
        assert os.path.exists(path("late.work/plan.json")), "needs the case before"
        shutil.copytree(path("late.work"), path(name + ".work"))
        for file in os.listdir(path(name + ".work")):
            if file.startswith(("score", "calibrated", "measured", "bundle")):
                whole = os.path.join(path(name + ".work"), file)
                shutil.rmtree(whole) if os.path.isdir(whole) else os.remove(whole)
        with open(path(name + ".work/plan.json")) as f:
            plan = json.load(f)
        plan["stages"][-1].update(changes.pop("score", {}))
        plan.update(changes)
        with open(path(name + ".work/plan.json"), "w") as f:
            json.dump(plan, f)

    def stored(name):
        with open(path(name + ".work/plan.json")) as f:
            return json.load(f)

    def test_new_follows_the_cuts_of_its_plan():
        for name in ("cut-1", "cut-2"):
            without_score(name, seconds=0, score={"samples": 320, "cuts": [[96, 640]]})
            new_one = [program, "new", "--data", path("bars"), "--variable", "place", "--threads", "1", "--out",
                       path(name)]
            if name == "cut-2":  # killed on its way
                p = subprocess.Popen(new_one, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     start_new_session=True)
                try:
                    p.wait(1)
                except subprocess.TimeoutExpired:
                    os.kill(p.pid, signal.SIGKILL)
                    p.wait()
            done = subprocess.run(new_one, capture_output=True, text=True, timeout=500)
            assert done.returncode == 0, done.stderr
        assert manifest("cut-1")["files"] == manifest("cut-2")["files"]
        assert manifest("cut-1")["quality"]["samples"] == 320
        # The learning rate followed 640 samples up to the cut: at 96 of them it is higher than at 96 of 320.
        by_hand = [program, "train", *stored("cut-1")["stages"][-1]["train"], "--data", path("cut-1.work"), "--threads", "1", "--quiet",
                   "--checkpoint", path("hand.ck"), "--out", path("hand.st")]
        for more in (["--samples", "640", "--until", "96"], ["--samples", "320"]):
            done = subprocess.run([*by_hand, *more], capture_output=True, text=True, timeout=500)
            assert done.returncode == 0, done.stderr
        with open(path("hand.st"), "rb") as a, open(path("cut-1/score.safetensors"), "rb") as b:
            assert a.read() == b.read()

    def test_new_uses_time_that_is_left():
        # 12 s, of which a score network of 640 samples at 200 a second would take 3
        without_score("early", seconds=12, used=0, score={"samples": 640, "cuts": [], "seconds": 3.4, "fixed": 0.2})
        command = [program, "new", "--data", path("bars"), "--variable", "place", "--threads", "1", "--skip",
                   "calibration", "--time-limit", "12", "--out", path("early")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0 and "early: " in done.stderr, done.stderr
        longer = manifest("early")["quality"]["samples"]
        assert 800 <= longer == stored("early")["stages"][-1]["samples"] < 20000, longer
        # More time goes on from there, and the plan says from where.
        plan = stored("early")
        plan.update(seconds=1000, used=0)
        with open(path("early.work/plan.json"), "w") as f:
            json.dump(plan, f)
        before = manifest("early")["files"]
        command[command.index("12")] = "1002"
        done = subprocess.run(command, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        score = stored("early")["stages"][-1]
        assert score["samples"] > longer and [longer, longer] in score["cuts"], score
        after = manifest("early")["files"]
        assert {k for k in after if after[k] != before[k]} == {"score.safetensors"}

    def test_new_refuses_in_one_line():
        os.makedirs(path("there"), exist_ok=True)
        out = ["--out", path("n")]
        refused(["new", "--data", path("nowhere"), *out], 1, "nowhere: no such file or folder")
        assert not os.path.exists(path("n.work"))
        refused(["new", "--data", path("nowhere"), "--out", path("there")], 2, "is there already")
        refused(["new", "--data", path("nowhere"), *out, "--effort", "weeks"], 2, "weeks")
        refused(["new", "--data", path("nowhere"), *out, "--time-limit", "soon"], 2, "soon")
        refused(["new", "--data", path("nowhere"), *out, "--variable", "a,b"], 2, "a,b")
        refused(["new", "--data", path("nowhere"), *out, "--size", "33"], 2, "33")
        os.makedirs(path("one/alone"), exist_ok=True)
        picture(path("one/alone/0.png"), 12, 2, 1)
        got, _, err = run("new", "--data", path("one"), *out)
        assert got == 2 and "at least two classes" in err.splitlines()[-1], err
        for i in range(9):
            os.makedirs(path("one/few"), exist_ok=True)
            picture(path(f"one/few/{i}.png"), 12, 2, 1 + i)
        got, _, err = run("new", "--data", path("one"), *out)
        assert got == 2 and "class alone has 1 pictures" in err.splitlines()[-1], err
        assert not os.path.exists(path("n.work")) and not os.path.exists(path("n"))
        shutil.rmtree(path("one"))

    return {k: v for k, v in locals().items() if k.startswith("test_")}
