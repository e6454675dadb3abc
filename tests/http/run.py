"""Runs the HTTP tests: python3 tests/http/run.py PROGRAM [filter]. Each function test_* of the
modules beside this file is a case; those of jobs and stopping run with every store. A filter that begins
with "soak" chooses the long ones (soak_*.py) instead."""
import glob, importlib, os, shutil, sys, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib

EVERY_STORE = ["cases_basics", "cases_operation"]


def main():
    lib.PROGRAM = sys.argv[1]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    passed = failed = 0
    here = os.path.dirname(os.path.abspath(__file__))
    kind = "soak" if wanted.startswith("soak") else "cases"
    names = [os.path.basename(p)[:-3] for p in sorted(glob.glob(os.path.join(here, kind + "_*.py")))]
    stores = ["sqlite", "redis"] if shutil.which("redis-server") else ["sqlite"]
    if "redis" not in stores:
        print("  redis-server is not installed: the cases that need it are left out", flush=True)
        names = [n for n in names if "shared" not in n]
    for lib.STORE, name in [("memory", n) for n in names] + \
            [(s, n) for s in stores for n in EVERY_STORE if kind == "cases"]:
        module = importlib.import_module(name)
        for name, case in list(vars(module).items()):
            full = f"{module.__name__}.{name}" + (f":{lib.STORE}" if lib.STORE != "memory" else "")
            if not name.startswith("test_") or wanted not in full:
                continue
            start = time.time()
            try:
                case()
                passed += 1
                if "-v" in sys.argv:
                    print(f"  ok {full} {time.time() - start:.2f} s", flush=True)
            except Exception:
                failed += 1
                print(f"  FAIL {full}\n{traceback.format_exc()}", flush=True)
    print(f"{'test_http':28} {passed} passed, {failed} failed, 0 skipped", flush=True)
    return failed != 0


sys.exit(main())
