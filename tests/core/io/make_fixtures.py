#!/usr/bin/python3
"""Writes the PyTorch files in data/ that test_torch.c reads (needs python3-torch; not run by tests).

Element i of every tensor is (7 i mod 23) - 11, made non-negative for unsigned types, so the test
knows all values from the shapes.
"""
import os

import torch

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


def pattern(*shape, dtype=torch.float32):
    count = 1
    for n in shape:
        count *= n
    values = (torch.arange(count) * 7 % 23 - 11).reshape(shape)
    return values.abs().to(dtype) if dtype in (torch.uint8, torch.bool) else values.to(dtype)


def main():
    os.makedirs(HERE, exist_ok=True)
    types = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32,
             "f64": torch.float64, "i64": torch.int64, "i32": torch.int32, "i16": torch.int16,
             "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool}
    state = {name: pattern(3, 5, dtype=dtype) for name, dtype in types.items()}
    state["scalar"] = pattern(1).reshape(())
    state["empty"] = pattern(0, 4)
    state["deep"] = pattern(2, 3, 1, 2, 2)
    torch.save(state, os.path.join(HERE, "types.pt"))

    base = pattern(4, 6)
    views = {"base": base, "rows": base[1:3], "transposed": base.t(), "column": base[:, 2],
             "strided": base[::2, 1::2], "repeated": base[0].expand(3, 6)}
    torch.save(views, os.path.join(HERE, "views.pt"))

    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GroupNorm(1, 2))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(pattern(*parameter.shape))
    torch.save({"epoch": 3, "rate": 0.5, "note": "trained", "flags": [True, None, (1, 2)],
                "state_dict": module.state_dict(), "ema": dict(module.named_parameters())},
               os.path.join(HERE, "nested.pt"))
    torch.save(state, os.path.join(HERE, "legacy.pt"), _use_new_zipfile_serialization=False)
    torch.save({"w": pattern(2), "call": print}, os.path.join(HERE, "hostile.pt"))


if __name__ == "__main__":
    main()
