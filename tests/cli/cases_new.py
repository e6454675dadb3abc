"""diffscm new: a folder of pictures becomes a model that answers; killed, it goes on to the same one."""
import json, os, signal, struct, subprocess, time, zlib


def cases(program, root, refused, run, path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def picture(name, size, at):
        """A bright bar on dark ground; `at`: its first row."""
        rows = b"".join(b"\0" + bytes([220 if at <= y < at + 4 else 30 + (x * y) % 9 for x in range(size)])
                        for y in range(size))
        with open(name, "wb") as f:
            f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)) +
                    chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))

    def pictures():
        for label, first in (("above", 1), ("below", 9)):
            os.makedirs(path(f"bars/{label}"), exist_ok=True)
            for i in range(40):
                picture(path(f"bars/{label}/{i:02}.png"), 16, first + i % 3)

    def manifest(folder):
        with open(path(folder + "/manifest.json")) as f:
            return json.load(f)

    def test_new_makes_a_model_and_goes_on_after_a_kill():
        pictures()
        command = ["new", "--data", path("bars"), "--variable", "place", "--time-limit", "1",
                   "--threads", "1", "--out"]
        first = subprocess.run([program, *command, path("bars-1")], capture_output=True, text=True)
        assert first.returncode == 0, first.stderr
        m = manifest("bars-1")
        assert m["variables"][0]["name"] == "place" and m["licence"] == "not stated", m
        assert m["variables"][0]["labels"] == ["above", "below"], m
        assert m["calibration"][0]["scale"] >= 1 and m["quality"]["poor"] in (True, False), m
        assert m["quality"]["null_l1_255"] <= 0.5, m["quality"]
        assert "Licence: not stated" in open(path("bars-1/card.md")).read()
        code, out, err = run("counterfactual", path("bars/above/00.png"), "--model", path("bars-1"),
                             "--do", "place=below", "--out", path("bar.png"), "--threads", "1")
        assert code == 0 and os.path.exists(path("bar.png")), err
        # The same plan, killed as soon as each of the first files is there.
        os.makedirs(path("bars-2.work"))
        with open(path("bars-1.work/plan.json")) as f:
            plan = f.read().replace('"bars-1"', '"bars-2"')
        with open(path("bars-2.work/plan.json"), "w") as f:
            f.write(plan)
        subprocess.run(["cp", *(path(f"bars-1.work/{s}-{k}-ubyte") for s in "MSP"
                                for k in ("images-idx3", "labels-idx1")), path("bars-2.work")], check=True)
        for wanted in ("score.st", "predictor.csv", "oracle.st"):
            p = subprocess.Popen([program, *command, path("bars-2")], stderr=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL)
            while p.poll() is None and not os.path.exists(path("bars-2.work/" + wanted)):
                time.sleep(0.01)
            p.send_signal(signal.SIGKILL)
            p.wait()
        last = subprocess.run([program, *command, path("bars-2")], capture_output=True, text=True)
        assert last.returncode == 0, last.stderr
        assert manifest("bars-2")["files"] == m["files"]

    def test_new_refuses_in_one_line():
        os.makedirs(path("there"), exist_ok=True)
        refused(["new", "--data", path("nowhere"), "--out", path("n")], "nowhere")
        refused(["new", "--data", path("nowhere"), "--out", path("there")], "is there already")
        refused(["new", "--data", path("nowhere"), "--out", path("n"), "--effort", "weeks"], "weeks")

    return {k: v for k, v in locals().items() if k.startswith("test_")}
