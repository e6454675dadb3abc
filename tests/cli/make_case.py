#!/usr/bin/python3
"""Writes cases/encoder, which test_verify_* of run.py use (needs python3-torch; not run by tests).

The network and its gradients are PyTorch's, from bench/torch_peer.py, on random weights (also where
training starts at zero) rounded to float16, as torch.save stores them.
"""
import json
import os
import struct
import sys

import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench"))
from torch_peer import Net  # noqa: E402

CONFIG = {
    "kind": "encoder", "image_size": 4, "in_channels": 1, "model_channels": 32, "out_channels": 5,
    "num_res_blocks": 1, "channel_mult": [1], "attention_resolutions": [4], "num_heads": 1,
    "num_head_channels": 16, "use_scale_shift_norm": True, "resblock_updown": True,
    "conv_resample": True, "pool": "attention", "attention_order": "legacy",
    "pool_attention_order": "new", "dropout": 0.0,
}


def write_safetensors(path, tensors):
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header, body = {}, b""
    for name, value in tensors.items():
        raw = value.contiguous().numpy().tobytes()
        header[name] = {"dtype": kinds[value.dtype], "shape": list(value.shape),
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + body)


def main():
    torch.manual_seed(5)
    folder = os.path.join(HERE, "cases", "encoder")
    net = Net(CONFIG, decoder=False).eval()
    state = {name: (torch.randn_like(p) * (0.5 if p.dim() < 2 else p[0].numel() ** -0.5)
                    + (1 if name.endswith(("norm.weight", "layers.0.weight")) else 0)).half()
             for name, p in net.state_dict().items()}
    net.load_state_dict({name: p.float() for name, p in state.items()})
    x = torch.randn(3, 1, 4, 4, requires_grad=True)
    t, y = torch.tensor([0.0, 250.0, 999.0]), torch.tensor([4, 0, 2])
    logits = net(x, t)
    log_prob = F.log_softmax(logits, dim=-1)[torch.arange(3), y]
    log_prob.sum().backward()
    torch.save(state, os.path.join(folder, "weights.pt"))
    write_safetensors(os.path.join(folder, "expected.safetensors"), {
        "x": x.detach(), "t": t, "y": y, "logits": logits.detach(), "log_prob": log_prob.detach(),
        "log_prob_x_grad": x.grad})
    with open(os.path.join(folder, "config.json"), "w", encoding="ascii") as f:
        json.dump(CONFIG, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
