"""The module of examples/notebook against the program; the notebook itself is valid and without results."""
import json, os, re, signal, subprocess, sys


def with_numpy():
    """A Python that has numpy: this one, or the system's."""
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import numpy"], capture_output=True).returncode == 0:
            return python
    raise AssertionError("numpy is in no Python here; tools/setup.sh test installs it")


def cases(program, root, refused, run, path):
    def test_the_notebook_module_asks_and_shows():
        service = subprocess.Popen([program, "serve", "--port", "0", "--admin-port", "0", "--models",
                                    os.path.join(root, "models", "mnist")],
                                   cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            url, said = None, ""
            for line in service.stdout:
                said += line
                found = re.search(r"http://\S+?:\d+", line)
                if "diffscm serves" in line and found:
                    url = found.group(0)
                    break
            assert url, said
            check = os.path.join(root, "tests", "cli", "notebook_check.py")
            done = subprocess.run([with_numpy(), check, root, url], capture_output=True, text=True, timeout=200)
            assert done.returncode == 0 and "notebook module works" in done.stdout, done.stderr
        finally:
            service.send_signal(signal.SIGINT)
            service.communicate(timeout=60)

    def test_the_notebook_holds_no_results():
        with open(os.path.join(root, "examples", "notebook", "counterfactuals.ipynb")) as f:
            notebook = json.load(f)
        cells = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        assert notebook["nbformat"] == 4 and len(cells) >= 4
        for cell in cells:
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell
            compile("".join(cell["source"]), "cell", "exec")

    return {k: v for k, v in locals().items() if k.startswith("test_")}
