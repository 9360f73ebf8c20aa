"""A one-layer transformer on addition modulo a number: the model and the data of several examples."""

import torch
from torch import nn


class Attention(nn.Module):
    """Attention without biases, its four projections as separate layers."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))

    def forward(self, x):
        layers = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in layers)
        return self.o_proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Two tokens a and b, one block of attention and ReLU layers without norms, logits of (a + b) mod modulus."""

    def __init__(self, modulus, width=64, heads=4, hidden=128, spread=1.0):
        super().__init__()
        self.embed, self.place = nn.Embedding(modulus, width), nn.Embedding(2, width)
        self.attention = Attention(width, heads)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.out = nn.Linear(width, modulus, bias=False)
        for table in (self.embed, self.place):
            nn.init.normal_(table.weight, std=spread)

    def forward(self, tokens):
        x = self.embed(tokens) + self.place(torch.arange(2, device=tokens.device).expand_as(tokens))
        x = (x + self.attention(x))[:, -1]
        return self.out(x + self.layers(x))


def addition(modulus, fraction):
    """All pairs (a, b) and (a + b) mod modulus, split at random: inputs and labels for training, then for testing."""
    pairs = torch.cartesian_prod(torch.arange(modulus), torch.arange(modulus))
    train, test = torch.randperm(len(pairs)).tensor_split([int(fraction * len(pairs))])
    sums = pairs.sum(1) % modulus
    return pairs[train], sums[train], pairs[test], sums[test]
