"""Models that channel pruning can't treat as a chain of layers; (N, 13) rows to (N, 3) logits."""

import torch
from torch import nn


class Recurrent(nn.Module):
    """A convolution read by a recurrent layer, and a head that can be pruned."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv1d(1, 16, 3, padding=1)
        self.memory = nn.LSTM(16, 16, num_layers=2, batch_first=True)
        self.wide = nn.Linear(16, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x[:, None])).transpose(1, 2)
        return self.head(torch.relu(self.wide(self.memory(x)[0][:, -1])))


class Baked(nn.Module):
    """A view of a fixed width between layers that could be pruned."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(13, 64)
        self.second = nn.Linear(64, 64)
        self.third = nn.Linear(64, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        x = x.view(-1, 16, 4).transpose(1, 2).reshape(-1, 64)
        return self.head(torch.relu(self.third(x)))


class OfTransformers(nn.Module):
    """A model of transformers of width 32, on numbers as tokens."""

    def __init__(self, body):
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(1, 32), body, nn.Linear(32, 3)

    def forward(self, x):
        tokens = torch.relu(self.stem(x[..., None]))
        return self.head(self.body(inputs_embeds=tokens).last_hidden_state.mean(1))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(13, 32)
        self.second = nn.Linear(32, 32)
        self.head = nn.Linear(32, 3)
        self.first.requires_grad_(False)
        self.second.requires_grad_(False)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


class Narrow(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(13, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(torch.relu(self.first(x)))


class Encoder(nn.Module):
    """torch's own transformer layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 64, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.layer(self.embed(x[:, :, None])).mean(1))


class Joined(nn.Module):
    """Query, key and value in one layer, split into heads, as GPT-2 has it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 32)
        self.joined, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.wide, self.narrow = nn.Linear(32, 64), nn.Linear(64, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        x = self.embed(x[..., None])
        parts = self.joined(x).split(32, dim=2)
        q, k, v = (part.view(*part.shape[:2], -1, 8).transpose(1, 2) for part in parts)
        found = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(found.transpose(1, 2).reshape(*x.shape[:2], -1))
        return self.head((x + self.narrow(torch.relu(self.wide(x)))).mean(1))


class Paired(nn.Module):
    """Two layers of which one may become narrower, not both."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(13, 32)
        self.second = nn.Linear(13, 32)
        self.third = nn.Linear(64, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        both = torch.cat([self.first(x), self.second(x)], 1)
        if both.shape[1] < 48:
            raise ValueError("too narrow")
        return self.head(torch.relu(self.third(torch.relu(both))))


class Tokens(nn.Module):
    """The first token goes another way; torch-pruning takes tokens for channels."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(1, 32)
        self.mix = nn.Linear(32, 32)
        self.wide = nn.Linear(32, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        first, rest = self.embed(x[..., None]).split([1, 12], 1)
        first, rest = torch.cat([first, torch.relu(self.mix(rest))], 1).split([1, 12], 1)
        pooled = torch.cat([first, rest], 1).mean(1)
        return {"logits": self.head(torch.relu(self.wide(pooled))), "cache": (None, first)}


recurrent, baked, frozen, narrow, encoder = Recurrent, Baked, Frozen, Narrow, Encoder
paired, tokens, joined = Paired, Tokens, Joined


def rotary():
    """A Llama, which turns its queries and keys by rotary position embeddings."""
    from transformers import LlamaConfig, LlamaModel

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return OfTransformers(LlamaModel(LlamaConfig(vocab_size=8, **sizes, **heads)))


def transposed():
    """A GPT-2, whose linear layers have transposed weights."""
    from transformers import GPT2Config, GPT2Model

    return OfTransformers(GPT2Model(GPT2Config(vocab_size=8, n_embd=32, n_layer=1, n_head=4)))


class Joint(nn.Module):
    """A block with the layers of attention and MLP side by side."""

    def __init__(self):
        super().__init__()
        self.num_heads = 4
        self.read = nn.Linear(13, 4 * 32)
        self.q, self.k, self.v, self.o = (nn.Linear(32, 32) for _ in range(4))
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.last = nn.Linear(32, 3)

    def forward(self, x):
        x = self.read(x).unflatten(1, (4, 32))
        width = self.q.out_features // self.num_heads
        q, k, v = (f(x).unflatten(2, (-1, width)).transpose(1, 2) for f in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.o(seen)
        return self.last((x + self.down(torch.relu(self.up(x)))).mean(1))


def joint():
    return Joint()


def normed_weights(kind="parametrizations"):
    """Layers whose weights are computed, in one of torch's two ways."""
    norms = {"parametrizations": nn.utils.parametrizations, "hooks": nn.utils}[kind]
    return nn.Sequential(
        norms.weight_norm(nn.Linear(13, 32)), nn.ReLU(),
        norms.spectral_norm(nn.Linear(32, 32)), nn.ReLU(),
        norms.weight_norm(nn.Linear(32, 3)),
    )  # fmt: skip


def normed_by_hooks():
    return normed_weights("hooks")


class Detector(nn.Module):
    """As a detector: two heads, of which the second runs last, and what both are computed from."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(13, 32), nn.Linear(32, 32)
        self.classes, self.boxes = nn.Linear(32, 24), nn.Linear(32, 16)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        hidden = hidden + self.second(hidden)
        classes, boxes = self.classes(hidden), self.boxes(hidden).sigmoid()
        return {"classes": classes, "boxes": boxes, "hidden": hidden}


def detector():
    return Detector()
