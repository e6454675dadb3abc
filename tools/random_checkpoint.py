#!/usr/bin/python3
"""Writes a full-size random checkpoint of a published network, and what PyTorch computes with it.

    tools/random_checkpoint.py 256-uncond score DIR        (needs python3-torch)

DIR/weights.pt is a state dict as torch.save writes it; with DIR/config.json and
DIR/expected.safetensors it is a case for `diffscm verify DIR`. The weights are random, also where
training starts at zero, so every layer matters. The networks come from bench/torch_peer.py.
"""
import argparse
import json
import os
import struct
import sys
import time

import torch
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench"))
import torch_peer  # noqa: E402

COMMON = {"in_channels": 3, "use_scale_shift_norm": True, "resblock_updown": True,
          "attention_resolutions": [32, 16, 8]}
SIZES = {  # image size, score channels, multipliers, score and predictor blocks, classes
    "64": (64, 192, [1, 2, 3, 4], 3, 4, 1000),
    "128": (128, 256, [1, 1, 2, 3, 4], 2, 2, 1000),
    "256": (256, 256, [1, 1, 2, 2, 4, 4], 2, 2, 1000),
    "256-uncond": (256, 256, [1, 1, 2, 2, 4, 4], 2, 2, 0),
    "512": (512, 256, [.5, 1, 1, 2, 2, 4, 4], 2, 2, 1000),
}


def configuration(preset, part):
    size, channels, mult, depth, predictor_depth, classes = SIZES[preset]
    c = dict(COMMON, image_size=size, channel_mult=mult)
    if part == "predictor":
        return dict(c, kind="encoder", model_channels=128, num_res_blocks=predictor_depth,
                    num_head_channels=64, out_channels=1000, pool="attention",
                    attention_order="legacy", pool_attention_order="new")
    heads = {"num_heads": 4} if preset == "128" else {"num_head_channels": 64}
    return dict(c, kind="unet", model_channels=channels, num_res_blocks=depth, out_channels=6,
                learn_sigma=True, num_classes=classes or None,
                attention_order="new" if preset == "64" else "legacy", **heads)


class Conditional(torch_peer.Net):
    """A score network whose embedding also holds the label."""

    def __init__(self, c):
        super().__init__(c, True)
        self.label_emb = nn.Embedding(c["num_classes"], 4 * c["model_channels"])

    def forward(self, x, t, y):
        label = self.label_emb(y)
        hook = self.time_embed.register_forward_hook(lambda module, inputs, out: out + label)
        out = super().forward(x, t)
        hook.remove()
        return out


def randomize(net):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in net.named_parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 100
            p.normal_(0, fan_in ** -.5, generator=generator)
            if p.dim() == 1 and name.endswith("weight"):
                p.add_(1)


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape),
                        "data_offsets": [at, at + 4 * value.numel()]}
        at += 4 * value.numel()
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(value.detach().float().contiguous().numpy().tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=SIZES)
    parser.add_argument("part", choices=["score", "predictor"])
    parser.add_argument("out")
    parser.add_argument("--half", action="store_true", help="store float16")
    parser.add_argument("--weights-only", action="store_true")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    c = configuration(args.preset, args.part)
    conditional = bool(c.get("num_classes"))
    net = Conditional(c) if conditional else torch_peer.Net(c, args.part == "score")
    net.eval()
    randomize(net)
    if args.half:
        net.half().float()
    state = {k: v.half() if args.half else v for k, v in net.state_dict().items()}
    torch.save(state, os.path.join(args.out, "weights.pt"))
    with open(os.path.join(args.out, "config.json"), "w") as file:
        json.dump(c, file, indent=1)
    print("parameters", sum(p.numel() for p in net.parameters()))
    if args.weights_only:
        return
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(1, 3, c["image_size"], c["image_size"], generator=generator)
    t, y = torch.tensor([421.0]), torch.tensor([550])
    expected = {"x": x, "t": t}
    if conditional or args.part == "predictor":
        expected["y"] = y
    start = time.time()
    if args.part == "score":
        with torch.no_grad():
            expected["out"] = net(x, t, y) if conditional else net(x, t)
        print("forward", round(time.time() - start, 2), "s on", torch.get_num_threads(), "threads")
    else:
        x.requires_grad_(True)
        logits = net(x, t)
        chosen = torch.log_softmax(logits, dim=1)[0, y[0]]
        expected["logits"], expected["log_prob"] = logits, chosen.reshape(1)
        expected["log_prob_x_grad"], = torch.autograd.grad(chosen, x)
        print("forward and gradient", round(time.time() - start, 2), "s")
    write_safetensors(os.path.join(args.out, "expected.safetensors"), expected)


if __name__ == "__main__":
    main()
