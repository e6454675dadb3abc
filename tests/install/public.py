#!/usr/bin/env python3
"""What the public headers of a folder declare.

usage: public.py headers FOLDER     every header, relative to FOLDER
       public.py functions FOLDER   names of all functions, sorted
       public.py cpp FOLDER         a C++ program that needs every one of them from the library
"""
import os, re, sys


def headers(folder):
    found = [os.path.relpath(os.path.join(at, name), folder)
             for at, _, names in os.walk(folder) for name in names if name.endswith(".h")]
    return sorted(found)


def functions(folder):
    names = set()
    for path in headers(folder):
        with open(os.path.join(folder, path), encoding="utf-8") as source:
            text = re.sub(r"/\*.*?\*/", "", source.read(), flags=re.S)
        text = re.sub(r"^\s*#(.*\\\n)*.*$", "", text, flags=re.M)
        names |= set(re.findall(r"\b(\w+)\s*\([^*]", text)) - {"__attribute__", "DSCM_PRINTF"}
    return sorted(names)


def cpp(folder):
    lines = ["#include <diffscm/diffscm.h>", "#include <cstdio>", "int main()", "{",
             "    const void *const all[] = {"]
    lines += [f"        reinterpret_cast<const void *>(&{name})," for name in functions(folder)]
    lines += ["    };", "    for (const void *one : all) if (!one) return 1;",
              '    std::printf("%d functions\\n", static_cast<int>(sizeof all / sizeof all[0]));',
              "    return std::printf(\"%s\\n\", dscm_version()) > 0 ? 0 : 1;", "}"]
    return lines


if __name__ == "__main__":
    print("\n".join({"headers": headers, "functions": functions, "cpp": cpp}[sys.argv[1]](sys.argv[2])))
