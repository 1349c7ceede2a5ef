"""A small Transformer encoder that classifies sentences of tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

PAD = 0  # the token that fills up a sentence; nobody attends to it


class EncoderLayer(nn.TransformerEncoderLayer):
    """``torch.nn.TransformerEncoderLayer`` (post-norm, ReLU), its parameters, initialization and values.

    Attention is written out: PyTorch's fused kernels have no second derivative and no forward mode, and its
    fast path in evaluation mode has no derivative at all. Here both modes are the same function.
    """

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """(n, l, d) to (n, l, d); −∞ in the padding mask (n, l), float, where a key is padding."""
        x = self.norm1(src + self._attend(src, src_key_padding_mask))
        return self.norm2(x + self.linear2(functional.relu(self.linear1(x))))

    def _attend(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """softmax(Q Kᵀ/√d) V of every head, put together."""
        attention = self.self_attn
        heads, size = attention.num_heads, attention.head_dim
        each = functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        # (3, n, heads, l, size)
        q, k, v = each.unflatten(-1, (3, heads, size)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(size)
        if padding is not None:
            scores = scores + padding[:, None, None, :]
        return attention.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Embedding and sinusoidal positions, encoder layers, mean over all positions, a linear layer.

    Embedding entries begin as N(0, 1) and are not scaled; everything else begins as PyTorch has it, which
    lets all encoder layers begin with the same weights. There is no dropout. Keys that are padding are
    masked, but the mean runs over padded positions too: these attend to the sentence, and count.

    Args:
        vocabulary: number of different tokens V, the first being the padding; length: positions l.
        classes: outputs C; width: d; heads: of attention; hidden: feed-forward width; layers: of encoder.

    Source: arXiv 2405.16002, section 3 (Transformer on SST2-1k), what its reader finds in its code, very
    probably; Vaswani et al., Attention is all you need, 2017.
    """

    def __init__(
        self,
        vocabulary: int,
        length: int,
        classes: int,
        *,
        width: int = 64,
        heads: int = 8,
        hidden: int = 2048,
        layers: int = 2,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.register_buffer("positions", sinusoids(length, width), persistent=False)
        layer = EncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def encode(self, tokens: Tensor, padded: Tensor | None = None) -> Tensor:
        """Tokens (n, l) int64 to vectors (n, l, d); ``padded`` (n, l), the padding tokens if None."""
        padded = tokens == PAD if padded is None else padded
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]  # type: ignore[index]
        return self.encoder(x, src_key_padding_mask=padded)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, l) int64 to outputs (n, C)."""
        return self.head(self.encode(tokens).mean(1))


def sinusoids(length: int, width: int) -> Tensor:
    """Positions p as (l, d): sin(p/10000^(2i/d)) in column 2i, the cosine in column 2i + 1; d even."""
    frequency = torch.exp(-math.log(10_000.0) / width * torch.arange(0, width, 2))
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
