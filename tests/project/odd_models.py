"""Small models that are unlike a chain of layers: tied, with unused or frozen parts, with state."""

import torch
from torch import nn

VOCABULARY = 12


class TiedLm(nn.Module):
    """A language model whose head is its embedding; (N, T) tokens to (N, T, V) logits."""

    def __init__(self, tied_buffers=True, tie=True):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.mix = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, VOCABULARY, bias=False)
        if tie:
            self.head.weight = self.embed.weight
        if tied_buffers:
            self.register_buffer("scale", torch.full((8,), 1.5))
            self.register_buffer("scale_again", self.scale)

    def forward(self, x):
        mixed = self.mix(self.embed(x))[0]
        return self.head(mixed * self.scale_again if hasattr(self, "scale") else mixed)


class TiedHead(nn.Module):
    """As BERT has it: the head is the embedding, and its bias has two names."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(VOCABULARY, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, VOCABULARY)
        self.head.weight = self.embed.weight
        self.bias = self.head.bias

    def forward(self, x):
        x = self.embed(x)
        return self.head(x + torch.relu(self.mix(x)))


class SharedBlocks(nn.Module):
    """Blocks of which the first is used twice, and one weight of the last is the first's."""

    def __init__(self):
        super().__init__()
        block = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        other = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        other[0].weight = block[0].weight
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.blocks = nn.ModuleList([block, block, other])
        self.head = nn.Linear(8, VOCABULARY)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.lstm = nn.LSTM(8, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, VOCABULARY)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x))[0])


class Siamese(nn.Module):
    """One encoder for both halves of the sequence."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Embedding(VOCABULARY, 8), nn.Linear(8, 8), nn.Tanh())
        self.head = nn.Linear(16, VOCABULARY)

    def forward(self, x):
        there, back = self.encoder(x), self.encoder(x.flip(1))
        return self.head(torch.cat([there, back], -1))


class Running(nn.Module):
    """State of its own: a running mean of its activations, which the forward pass uses."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.head = nn.Linear(8, VOCABULARY)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        x = self.embed(x)
        out = self.head(x - self.mean)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(x.mean((0, 1)), 0.1)
                self.steps += 1
        return out


class UnusedHead(Lstm):
    """A head that nothing uses, and a scale that is frozen."""

    def __init__(self):
        super().__init__()
        self.spare = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.ones(8), requires_grad=False)

    def forward(self, x):
        return self.head(self.lstm(self.embed(x) * self.scale)[0])


class Several(Lstm):
    """Several outputs, of which the loss needs the second only."""

    def __init__(self):
        super().__init__()
        self.aside = nn.Linear(8, 2)

    def forward(self, x):
        hidden = self.lstm(self.embed(x))[0]
        return {"aside": self.aside(hidden), "logits": self.head(hidden)}


def both_heads(outputs, targets):
    """The next token by one head, and by the other whether it is an even one; the sum and count."""
    kept = targets != -100
    logits, aside = outputs["logits"][kept], outputs["aside"][kept]
    token = nn.functional.cross_entropy(logits, targets[kept], reduction="sum")
    even = nn.functional.cross_entropy(aside, targets[kept] % 2, reduction="sum")
    return token + 0.5 * even, kept.sum()


class FixedHeads(nn.Module):
    """Attention that takes the width of a head from the model's, which fewer heads don't have."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCABULARY, 8), nn.Linear(8, VOCABULARY)
        self.attention = nn.Module()
        self.attention.heads = 2
        for name in ("query", "key", "value", "out"):
            bias = name != "key"  # of no effect: the optimizer would make noise large
            setattr(self.attention, name, nn.Linear(8, 8, bias=bias))
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x):
        x = self.embed(x)
        q, k, v = (
            getattr(self.attention, name)(x).view(
                *x.shape[:2], -1, x.shape[2] // self.attention.heads
            )
            for name in ("query", "key", "value")
        )
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        scores = (q @ k.transpose(2, 3)).softmax(-1)
        x = x + self.attention.out((scores @ v).transpose(1, 2).reshape(x.shape))
        return self.head(x + self.mlp.fc2(torch.tanh(self.mlp.fc1(x))))


class TwoHeads(nn.Module):
    """A class and a price, of rows of 13 numbers."""

    def __init__(self):
        super().__init__()
        self.body, self.price = nn.Linear(13, 32), nn.Linear(32, 1)
        self.kind = nn.Linear(32, 3)

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return {"kind": self.kind(hidden), "price": self.price(hidden)[:, 0]}


def two_heads():
    torch.manual_seed(0)
    return TwoHeads()


class TwoTowers(nn.Module):
    """Outputs with the names of its inputs, and one that is called as the main one is in graphs."""

    def __init__(self):
        super().__init__()
        self.see, self.read = nn.Linear(13, 8), nn.EmbeddingBag(9, 8, padding_idx=0)
        self.head = nn.Linear(8, 2)

    def forward(self, image, text):
        image, text = torch.tanh(self.see(image)), self.read(text)
        logits = self.head(image * text)
        return {"image": image, "text": text, "output": logits.softmax(1), "logits": logits}


def two_towers():
    torch.manual_seed(0)
    return TwoTowers()


def weighted_heads(outputs, targets):
    """Of samples that don't count the same; the sum and how much counts."""
    kind = nn.functional.cross_entropy(outputs["kind"], targets["kind"], reduction="none")
    price = (outputs["price"] - targets["price"]) ** 2
    return ((kind + price) * targets["weight"]).sum(), targets["weight"].sum()


def both_right(outputs, targets):
    """One number for each sample."""
    right = outputs["kind"].argmax(1) == targets["kind"]
    return right - abs(outputs["price"] - targets["price"])


def tuple_right(outputs, targets):
    """The same of targets in a tuple, and of the main output."""
    price, weight, kind = targets
    return (outputs.argmax(1) == kind) * weight + 0 * price


class SparseEmbedding(Lstm):
    """Gradients of the rows that were read only."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8, sparse=True)


class Branching(Lstm):
    """A layer that only even first tokens use: workers differ in what they use."""

    def __init__(self):
        super().__init__()
        self.further = nn.Linear(8, 8)

    def forward(self, x):
        hidden = self.lstm(self.embed(x))[0]
        if int(x[0, 0]) % 2 == 0:
            hidden = hidden + self.further(hidden)
        return self.head(hidden)


class Frozen(Lstm):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Detached(Lstm):
    def forward(self, x):
        return super().forward(x).detach()


class Chain(nn.Sequential):
    """Can be split into pipeline stages; the first part is frozen, the last has spare weights."""

    def __init__(self):
        super().__init__(nn.Embedding(VOCABULARY, 8), nn.Linear(8, 8), nn.Tanh(), Last())
        self[0].requires_grad_(False)


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, VOCABULARY)
        self.spare = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(x)


class Plain(nn.Sequential):
    """Nothing but layers, without names; the first batches are read through an embedding."""

    def __init__(self):
        super().__init__(
            nn.Embedding(VOCABULARY, 8), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 8),
            nn.Tanh(), nn.Linear(8, VOCABULARY),
        )  # fmt: skip


class Normed(nn.Sequential):
    """Batch norm of rows of 13 numbers, which can't take one row alone."""

    def __init__(self):
        super().__init__(nn.Linear(13, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


MODELS = {
    "tied": TiedLm, "blocks": SharedBlocks, "lstm": Lstm, "siamese": Siamese, "running": Running,
    "unused": UnusedHead, "frozen": Frozen, "detached": Detached, "chain": Chain, "several": Several, "branching": Branching, "norm": Normed, "plain": Plain,
    "tied-head": TiedHead, "sparse": SparseEmbedding, "two heads": TwoHeads, "fixed heads": FixedHeads,
}  # fmt: skip


def odd(kind, **args):
    return MODELS[kind](**args)


def tied_plan(_model, _sequence):
    return {"embed": "embedding_rowwise", "head": "colwise_gather_output"}


def half_tied_plan(_model, _sequence):
    return {"head": "colwise_gather_output"}
