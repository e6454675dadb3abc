"""Runs the HTTP tests: python3 tests/http/run.py PROGRAM [filter]. Each function test_* of the
modules beside this file is a case."""
import glob, importlib, os, sys, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lib




def main():
    lib.PROGRAM = sys.argv[1]
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    passed = failed = 0
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "cases_*.py"))):
        module = importlib.import_module(os.path.basename(path)[:-3])
        for name, case in list(vars(module).items()):
            full = f"{module.__name__}.{name}"
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
