"""Wrong use and damaged files: one clear line, the right exit code, and nothing left behind."""
import gzip, os, resource, shutil, signal, socket, struct, subprocess, time

from waiting import PATIENCE, catches, until


def cases(program, root, refused, run, path, write_png, write_idx):
    """Test functions over the runner's helpers."""
    out = ["-o", path("never.png")]
    one = ["counterfactual", os.path.join(root, "examples", "mnist", "3.png"), "--do", "digit=8"]

    def test_numbers_are_checked():
        for option, value in (("--steps", "0"), ("--steps", "1"), ("--steps", "-5"),
                              ("--steps", "1e3"), ("--scale", "nan"), ("--scale", "inf"),
                              ("--scale", "-1"), ("--scale", "1e9"), ("--scale", "strong"),
                              ("--ratio", "nan"), ("--ratio", "0"), ("--threads", "0"),
                              ("--threads", "999"), ("--batch", "0"), ("--seed", "1.5"),
                              ("--memory", "5"), ("--memory", "2X")):
            refused([*one, *out, option, value], 2, option.strip("-"), value)
        refused([*one, *out, "--steps", ""], 2, "--steps")

    def test_ratios_say_what_is_allowed():
        refused([*one, *out, "--ratio", "1e-9"], 2, "--ratio 1e-9", "0.001..1")
        refused([*one, *out, "--ratio", "0.001"], 2, "ratio: 0.001", "0.0046..1")

    def test_samples_are_not_searched():
        refused(["sample", *out, "--scale", "auto", "--do", "digit=3"], 2, "--scale auto",
                "0..1000")

    def test_interventions_are_checked():
        picture = one[:2]
        for text, part in (("digit=11", "11"), ("digit=", "digit"), ("=3", "VARIABLE=VALUE"),
                           ("image=3", "image"), ("digit=3.5", "3.5"), ("digit=-1", "-1")):
            refused([*picture, "--do", text, *out], 2, part)
        refused([*one, "--do", "digit=7", *out], 2, "digit", "twice")
        refused(["sample", "--do", "digit=99", *out], 2, "99")
        refused(["sample", *["--do", "digit=7"] * 1000, *out], 2, "digit", "twice")

    def test_a_swallowed_result_is_a_failure():
        for args in (["--help"], ["serve", "--help"], ["info", "mnist"], one + ["-o", path("swallowed.png")]):
            with open("/dev/full", "w") as full:
                done = subprocess.run([program, *args], stdout=full, stderr=subprocess.PIPE,
                                      text=True)
            assert done.returncode == 1 and "standard output: No space" in done.stderr, done

    def test_empty_names_are_refused():
        refused(["counterfactual", "", "--do", "digit=8", *out], 2, "argument is empty")
        refused(["info", ""], 2, "argument is empty")
        refused([*one, *out, "--model", ""], 2, "--model", "empty")
        refused(["evaluate", "--data", "", "--report", path("r")], 2, "--data", "empty")

    def test_names_of_bundles_are_checked():
        nets = ["--score", one[1], "--predictor", one[1]]
        for name in ("", "a/b"):
            refused(["bundle", *nets, "--out", path("b"), "--name", name], 2, f'"{name}"')
            refused(["import", *nets, "--out", path("b"), "--name", name], 2, f'"{name}"')

    def test_a_missing_licence_is_told():
        """Of a model that is put together; what is measured goes into one that has its licence."""
        for command in ("bundle", "import"):
            made = [command, "--score", one[1], "--predictor", one[1], "--out", path("b"), "--name", "b"]
            for missing in ([], ["--licence="], ["--licence= "], ["--license", "\t"]):
                code, _, err = run(*made, *missing)
                assert code and f"diffscm {command}: warning: --licence is missing" in err.splitlines()[0], err
            for given in (["--licence", "MIT"], ["--license=not stated"]):
                code, _, err = run(*made, *given)
                assert code and "licence" not in err and err.count("\n") == 1, err
        assert not os.path.exists(path("b"))

    def test_what_contradicts_itself_is_refused():
        refused([*one, *out, "--null"], 2, "--null", "--do digit=8")
        digits = os.path.join(root, "models", "mnist", "score.safetensors")
        refused(["bundle", "--out", path("no-predictor"), "--name", "two", "--licence", "MIT", "--score", digits,
                 "--predictor", digits], 1, path("no-predictor/manifest.json"), "predictor")

    def test_the_service_checks_its_files():
        for option, part in (("--config", "directory"), ("--keys-file", "no regular file")):
            code, _, err = run("serve", option, path("."))
            assert code in (1, 2) and part in err and err.count("\n") == 1, err
        for origin in ("example.org", "https://example.org/", "://x"):
            refused(["serve", "--cors-origins", "*," + origin], 2, "cors-origins", f'"{origin}"')
        refused(["serve", "-p"], 2, "option -p")
        own = ["serve", "--port", "0", "--admin-port", "0"]
        refused([*own, "--models", ","], 2, 'models is ","', "separated by commas")
        for i in range(65):
            os.makedirs(path(f"crowd/models/m{i}"))
            open(path(f"crowd/models/m{i}/manifest.json"), "w").close()
        refused([*own, "--data-dir", path("crowd")], 1, "crowd/models", "more than 64")

    def test_no_file_takes_the_place_of_a_closed_one():
        service = ["serve", "--port", "0", "--admin-port", "0", "--models", "mnist"]
        child = subprocess.Popen(["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', program, *service])
        files = f"/proc/{child.pid}/fd"
        until(lambda: len(os.listdir(files)) > 8)  # it has opened files of its own
        held = [os.readlink(f"{files}/{n}") for n in range(3)]
        child.terminate()
        child.wait(PATIENCE)
        assert held == ["/dev/null"] * 3, held
        done = subprocess.run(["sh", "-c", 'exec "$0" "$@" >&-', program, *one, "-o",
                               path("closed.png")], stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "standard output: Bad file" in done.stderr, done

    def test_a_small_stack_is_refused():
        done = subprocess.run(["sh", "-c", 'ulimit -s 64; exec "$0" info', program],
                              capture_output=True, text=True)
        assert done.returncode == 1 and "64 KiB (ulimit -s), needed are 256" in done.stderr, done

    def test_the_version_needs_no_thread_of_its_own():
        def no_threads():
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
            if os.geteuid() == 0:  # root is not limited
                os.setgid(65534)
                os.setuid(65534)
        copy = path("limited")
        os.chmod(path("."), 0o755)
        shutil.copy(program, copy)
        for args, code in ((["--version"], 0), (["--help"], 0), (["info", "nowhere"], 1)):
            done = subprocess.run([copy, *args], capture_output=True, text=True,
                                  preexec_fn=no_threads)
            assert done.returncode == code and "OpenBLAS" not in done.stderr, done

    def test_a_port_in_use_names_the_option():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            own = ["serve", "--models", "mnist"]
            refused([*own, "--admin-port", "0", "--port", port], 1, "--port (DIFFSCM_PORT)", port)
            refused([*own, "--port", "0", "--admin-port", port], 1, "--admin-port", port)

    def test_nothing_verified_is_no_success():
        code, out, err = run("verify", one[1])
        assert code == 2 and "none of the arguments is a folder" in err, out + err

    def test_results_are_refused_before_the_work():
        absent = os.path.join(path("no-folder"), "x.png")
        refused([*one, "-o", absent], 1, "--out", "no-folder")
        refused([*one, "-o", path("")], 2, "--out", "folder")
        refused([*one, "-o", ""], 2, "--out", "empty")
        refused([*one, *out, "--preview", absent], 1, "--preview", "no-folder")
        refused(["sample", "-o", absent], 1, "--out", "no-folder")
        refused(["demo", "-o", absent], 1, "--out", "no-folder")
        data = ["train", "oracle", "--data", path(".")]
        refused([*data, "--out", absent], 1, "--out", "no-folder")
        refused([*data, "--out", path("o"), "--checkpoint", absent], 1, "--checkpoint")
        refused([*data, "--out", path("o"), "--log", absent], 1, "--log")

    def test_no_result_is_written_over_another():
        old = path("old-result")
        with open(old, "w") as f:
            f.write("old")
        os.symlink(old, path("its-link"))
        refused([*one, "-o", old, "--scores", old], 2, "--scores", "--out")
        refused([*one, "-o", old, "--scores", path("its-link")], 2, "--scores", "--out")
        refused([*one, *out, "--preview", path("p.png"), "--scores", path("p.png")], 2, "--preview")
        data = ["train", "oracle", "--data", path("."), "--out", path("o")]
        refused([*data, "--checkpoint", path("o")], 2, "--checkpoint", "--out")
        refused([*data, "--log", path("o")], 2, "--log", "--out")
        refused([*data, "--log", path("c"), "--checkpoint", path("c")], 2, "--log", "--checkpoint")
        with open(old) as f:
            assert f.read() == "old"

    def test_what_is_no_stream_is_refused():
        refused([*one, *out, "--scores", "-"], 2, "--scores -", "standard output")
        absent = os.path.join(path("no-folder"), "x.png")
        for option in ("--difference", "--uncertainty"):
            refused([*one, *out, option, absent], 1, option, "no-folder")
            refused([*one, *out, option, path("u.jpg")], 2, option, ".jpg")
        refused([*one, *out, "--difference", path("u.png"), "--uncertainty", path("u.png")], 2, "--uncertainty")
        refused([*one, *out, "--preview", "-"], 2, "--preview -", "standard output")
        refused(["train", "oracle", "--data", path("."), "--out", "-"], 2, "--out -")
        assert not os.path.exists(os.path.join(root, "-"))

    def test_models_are_checked():
        os.makedirs(path("no-model"), exist_ok=True)
        refused([*one, *out, "--model", path("no-model")], 1, "no-model/manifest.json")
        refused([*one, *out, "--model", path("absent/model")], 1, "absent/model")
        refused([*one, *out, "--data-dir", path("no-model")], 1, "models/mnist", "no-model")
        for text, part in (("", "manifest.json"), ("{", "manifest.json"), ("[]", "manifest.json"),
                           ("{\"format\": 3}", "format"), ("\0" * 40, "manifest.json"),
                           ("[" * 100000, "manifest.json")):
            with open(os.path.join(path("no-model"), "manifest.json"), "w") as f:
                f.write(text)
            refused(["info", path("no-model")], 1, part)

    def test_pictures_are_checked():
        picture = ["--do", "digit=8", *out]
        for name, blob in (("empty.png", b""), ("text.png", b"not a picture\n" * 20),
                           ("gif.png", b"GIF89a" + bytes(100)),
                           ("jpeg.png", b"\xff\xd8\xff\xe0" + bytes(60)),
                           ("jpeg2.png", b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + b"\xff" * 400)):
            with open(path(name), "wb") as f:
                f.write(blob)
            refused(["counterfactual", path(name), *picture], 1, name)
        # a header that promises 4 gigapixels costs nothing
        with open(write_png("huge.png", 28, 28), "rb") as f:
            blob = bytearray(f.read())
        struct.pack_into(">II", blob, 16, 65535, 65535)
        with open(path("huge.png"), "wb") as f:
            f.write(blob)
        refused(["counterfactual", path("huge.png"), *picture], 1, "huge.png")
        refused(["counterfactual", root, *picture], 1, "is a folder, must be a file")
        refused(["counterfactual", write_png("wide.png", 29, 28), *picture], 1, "29x28", "--resize")
        assert not os.path.exists(path("never.png"))

    def test_idx_files_are_checked():
        good = write_idx("good", (2, 28, 28), bytes(2 * 784))
        two = write_idx("good-targets", (2,), bytes([3, 4]))
        three = write_idx("three-targets", (3,), bytes([3, 4, 5]))
        square = write_idx("square-targets", (2, 1), bytes([3, 4]))
        result = ["--out", path("never")]

        def images_refused(blob, *parts, name="bad-idx"):
            with open(path(name), "wb") as f:
                f.write(blob)
            refused(["counterfactual", "--images", path(name), "--targets", two, *result], 1, name,
                    *parts)

        with open(good, "rb") as f:
            blob = f.read()
        for cut in (0, 3, 4, 15, 16, 17, len(blob) - 1):
            images_refused(blob[:cut])
        images_refused(blob + b"\0")                            # one byte too many
        images_refused(b"\0\0\x0d" + blob[3:])                  # floats
        images_refused(b"\0\0\x08\x09" + blob[4:])              # nine dimensions
        images_refused(b"\0\0\x08\x03" + b"\xff" * 12)          # more than memory holds
        images_refused(write_blob((0, 28, 28)), "no images", "0 of 28x28", "at least 1")
        images_refused(gzip.compress(write_blob((0, 28, 28))), "no images", name="bad-idx.gz")
        packed = gzip.compress(blob)
        for cut in (1, 10, len(packed) // 2, len(packed) - 1):
            images_refused(packed[:cut], name="bad-idx.gz")
        images_refused(packed[:-8] + b"\0" * 8, name="bad-idx.gz")  # the checksum of other bytes
        images_refused(gzip.compress(bytes([0, 0, 8, 3]) + b"\x7f\xff\xff\xff" * 3),
                       name="bad-idx.gz")
        for targets, part in ((three, "3 targets for 2"), (square, "targets for 2"),
                              (good, "targets for 2"), (path("absent"), "absent")):
            refused(["counterfactual", "--images", good, "--targets", targets, *result], 1, part)
        assert not os.path.exists(path("never"))

    def write_blob(shape):
        return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)

    def test_training_is_checked():
        refused(["train"], 2, "task", "score")
        refused(["train", "everything"], 2, "everything", "oracle")
        refused(["train", "oracle", "--data", path("absent"), "--out", path("o")], 1, "absent")
        refused(["train", "oracle", "--out", path("o")], 2, "--data")
        refused(["train", "oracle", "--data", path("."), "--out", path("o"), "--lr", "nan"], 2,
                "--lr")
        code, text, err = run("train", "--help")
        assert code == 0 and "oracle" in text and err == ""

    def test_labels_are_checked_first():
        command = ["bundle", "--out", path("labels"), "--name", "x", "--licence", "MIT", "--score", "s",
                   "--predictor", "p"]
        refused([*command, "--labels", "crane,b,crane"], 2, 'labels 1 and 3 are both "crane"')
        refused([*command, "--labels", 'a,,c'], 2, "label 2 is empty")
        refused([*command, "--labels", '"a, b"c,d'], 2, "label 1")
        with open(path("names"), "wb") as f:
            f.write("\ufefftench, Tinca tinca\r\nd\u00f6g\r\nd\u00f6g\n".encode())
        refused([*command, "--labels-file", path("names")], 2, 'labels 2 and 3 are both "d\u00f6g"')

    def test_training_is_refused_before_the_work():
        """Data of which nothing can be learnt, or that the figures at the end cannot be taken of."""
        os.makedirs(path("splits"), exist_ok=True)
        for name, shape, labels in (("train", (40, 12, 12), [0, 1] * 20), ("large", (4, 16, 16), [0] * 4),
                                    ("other", (4, 12, 12), [0, 1, 2, 1]), ("none", (0, 12, 12), []),
                                    ("few", (4, 12, 12), [0])):
            pixels = bytes(shape[0] * shape[1] * shape[2])
            write_idx(f"splits/{name}-images-idx3-ubyte.gz", shape, pixels)
            write_idx(f"splits/{name}-labels-idx1-ubyte", (len(labels),), bytes(labels))
        command = ["train", "oracle", "--data", path("splits"), "--out", path("never"), "--batch", "8",
                   "--samples", "1000000000", "--threads", "1", "--log", path("never.csv")]
        for split, *parts in (("absent", "absent-images-idx3-ubyte"), ("large", "16x16x1", "12x12x1"),
                              ("other", "image 2 has label 2", "2 classes"),
                              ("none", "none-images-idx3-ubyte.gz", "no images", "0 of 12x12"),
                              ("few", "few-labels-idx1-ubyte", "1 labels", "4 images")):
            refused([*command, "--eval-split", split], 1, f"--eval-split {split}", *parts)
        refused([*command, "--split", "none"], 1, "none-images-idx3-ubyte.gz", "no images")
        assert not os.path.exists(path("never")) and not os.path.exists(path("never.csv"))
        short = [*command[:4], "--samples", "40", "--batch", "8", "--threads", "1", "--dropout",
                 "0.1", "--out"]
        code, out, err = run(*short, path("seen"), "--eval-split", "train", "--eval-limit", "10")
        assert code == 0 and out.startswith("train loss ") and "accuracy" in out, (out, err)
        code, out, err = run(*short, path("unseen"))
        assert code == 0 and out == "", (out, err)
        with open(path("seen"), "rb") as a, open(path("unseen"), "rb") as b:
            assert a.read() == b.read()  # looking at the data beforehand changes nothing

    def test_verify_is_checked():
        refused(["verify"], 2, "no case")
        code, text, err = run("verify", path("no-case"))
        assert code == 1 and "no-case/config.json" in text and "1 failed" in text, (text, err)

    def test_checkpoints_are_checked():
        """Cut, lengthened and turned bytes of a training checkpoint."""
        folder = path("tiny")
        os.makedirs(folder, exist_ok=True)
        write_idx("tiny/train-images-idx3-ubyte", (40, 12, 12), bytes(range(240)) * 24)
        write_idx("tiny/train-labels-idx1-ubyte", (40,), bytes([0, 1] * 20))
        command = ["train", "autoencoder", "--data", folder, "--out", path("tiny.st"),
                   "--checkpoint", path("tiny.ck"), "--samples", "40", "--batch", "20",
                   "--threads", "1"]
        code, _, err = run(*command)
        assert code == 0, err
        with open(path("tiny.ck"), "rb") as f:
            blob = f.read()
        (length,) = struct.unpack("<Q", blob[:8])
        flipped = blob[:20] + bytes([blob[20] ^ 1]) + blob[21:]
        grown = struct.pack("<Q", 1 << 62) + blob[8:]
        for damaged in (b"", blob[:7], blob[:8 + length // 2], blob[:-1], blob + b"\0", flipped,
                        grown, b"{}" * 50):
            with open(path("tiny.ck"), "wb") as f:
                f.write(damaged)
            refused(command, 1, "tiny.ck")

    # ---- signals ---------------------------------------------------------------------------------
    def stopped(args, seconds, number=signal.SIGINT):
        """Starts, waits, signals: exit code 130 soon after, one line that says so, no new file."""
        folder = path("stopped")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        child = subprocess.Popen([program, *args], cwd=folder, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        # before that the model loads and a signal just kills
        until(lambda: child.poll() is not None or catches(child.pid, number))
        time.sleep(seconds)
        assert child.poll() is None, child.communicate()
        child.send_signal(number)
        try: # the runs themselves would take minutes more
            text, err = child.communicate(timeout=PATIENCE)
        finally:
            child.kill()
        assert child.returncode == 130, (child.returncode, text, err)
        said = [line for line in err.splitlines() if line.startswith("diffscm ")]
        assert len(said) == 1 and "stopped by a signal" in said[0], err
        assert text == "", text
        return folder, said[0]

    def test_a_signal_ends_a_long_counterfactual():
        images = write_idx("many", (3000, 28, 28), bytes(3000 * 784))
        targets = write_idx("many-targets", (3000,), bytes(3000))
        for number in (signal.SIGINT, signal.SIGTERM):
            folder, _ = stopped(["counterfactual", "--images", images, "--targets", targets,
                                 "--out", "z", "--scores", "s", "--steps", "100", "--model",
                                 os.path.join(root, "models", "mnist")], 1, number)
            assert os.listdir(folder) == []

    def test_a_signal_ends_long_sampling():
        folder, said = stopped(["sample", "--count", "1000", "--sampler", "ddim", "-o", "x.png",
                                "--steps", "500", "--model", os.path.join(root, "models", "mnist")], 1)
        assert "of 500 steps" in said or "within a step" in said, said
        assert os.listdir(folder) == []

    def test_a_signal_ends_training():
        folder = path("train-data")
        os.makedirs(folder, exist_ok=True)
        write_idx("train-data/train-images-idx3-ubyte", (64, 28, 28), bytes(64 * 784))
        write_idx("train-data/train-labels-idx1-ubyte", (64,), bytes([0, 1] * 32))
        command = ["train", "score", "--data", folder, "--out", "o.st", "--batch", "8",
                   "--samples", "100000000"]
        left, said = stopped(command, 1)
        assert "nothing saved" in said and os.listdir(left) == []
        left, said = stopped([*command, "--checkpoint", "o.ck"], 1)
        assert "saved in o.ck" in said and os.listdir(left) == ["o.ck"]

    def test_results_may_go_to_a_pipe_or_through_a_link():
        command = [program, "sample", "--count", "1", "--steps", "2", "--model",
                   os.path.join(root, "models", "mnist"), "-o"]
        os.mkfifo(path("pipe"))
        child = subprocess.Popen([*command, path("pipe")], stderr=subprocess.PIPE)
        with open(path("pipe"), "rb") as f:
            blob = f.read()
        assert child.wait() == 0, child.stderr.read()
        assert len(blob) == 16 + 784 and blob[:4] == b"\0\0\x08\x03", len(blob)
        with open(path("old"), "wb") as f:
            f.write(b"old")
        os.symlink(path("old"), path("link"))
        subprocess.run([*command, path("link")], check=True, capture_output=True)
        with open(path("old"), "rb") as f:
            assert f.read() == blob and os.path.islink(path("link"))

    return {name: f for name, f in locals().items() if name.startswith("test_")}
