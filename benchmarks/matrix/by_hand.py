"""A base edited by hand: the paper's equations once more, in fp64, and hooks on the stock pipeline's layers.

Nothing here calls what it is compared with (`edit`, the bank, packing, composing). Encodings are those of
diffusers' pipeline, with a concept's embedding in the row of its word; what each `to_k` and `to_v` should
emit is worked out from their weights; residuals follow from the attention that each layer itself computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from perfusion_registry.artifact import Artifact
from perfusion_registry.base import Base
from tests.paper import parted, ridged
from tests.transformer_bases import Kind

LEAST, MOST = 0.25, 0.5
"""A residual applies from a quarter to half of its word's greatest attention on."""


@dataclass(frozen=True, eq=False)
class Edit:
    """One concept of a prompt. word: its supercategory. bias, temperature: of its gate. residual: how
    strongly its residual applies."""

    word: str
    artifact: Artifact
    bias: float
    temperature: float
    residual: float = 0.0

    def tensor(self, name: str) -> Tensor:
        return self.artifact.tensors[name].double()


@dataclass(frozen=True, eq=False)
class ByHand:
    """kind, base: of which the stock pipeline alone is used. C: (d, d), the covariance of the concepts."""

    kind: Kind
    base: Base
    C: Tensor

    # Text

    @torch.no_grad()
    def encoded(self, text: str, edits: Sequence[Edit] = ()) -> Tensor:
        """(n, d) in fp64, with each concept's own embedding in the place of its word's."""
        tables, before = self.kind.tables(self.base.pipe), []
        try:
            for edit in edits:
                for number, (table, tokenizer) in enumerate(tables):
                    row = self._token(tokenizer, edit.word)
                    own = f"embedding.{number + 1}" if number else "embedding"
                    before.append((table, row, table.weight[row].clone()))
                    table.weight[row] = edit.artifact.tensors[own].to(table.weight)
            return self.kind.encoded(self.base, text)[0].double()
        finally:
            for table, row, numbers in reversed(before):
                table.weight[row] = numbers

    @staticmethod
    def _token(tokenizer: Any, word: str) -> int:
        """The one token of a word behind a space."""
        one, two = (tokenizer(text, add_special_tokens=False).input_ids for text in ("a", f"a {word}"))
        (token,) = two[len(one) :]
        return int(token)

    def _ids(self, text: str) -> list[int]:
        return list(self.kind.tables(self.base.pipe)[0][1](text).input_ids)

    def place(self, text: str, word: str) -> int:
        """Where a word stands among what K and V read."""
        tokenizer = self.kind.tables(self.base.pipe)[0][1]
        return self._ids(text).index(self._token(tokenizer, word))

    def there(self, text: str, n: int) -> Tensor:
        """(n, 1): 1 where the edit has a part, 0 at padding, where the base knows padding."""
        real = n if self.base.attends_to_padding else len(self._ids(text))
        return (torch.arange(n) < real).double()[:, None]

    # Eq. 3 and Eq. 4

    @torch.no_grad()
    def emitted(self, text: str, edits: Sequence[Edit], lock: str) -> dict[str, Tensor]:
        """What each `to_k` and `to_v` emits for a prompt, (n, its width) in fp64, by path; with biases."""
        E, plain = self.encoded(text, edits), self.encoded(text)
        there = self.there(text, len(E))
        inputs = torch.stack([edit.tensor("target_input") for edit in edits])  # (J, d)
        bias = torch.tensor([edit.bias for edit in edits]).double()
        temperature = torch.tensor([edit.temperature for edit in edits]).double()
        rest, gate = parted(E, inputs, self.C, bias, temperature, there)
        starts = [self._start(edit.word) for edit in edits]
        found = {}
        for path, linear in self.projections().items():
            W, layer, keys = linear.weight.double(), path.rpartition(".")[0], path.endswith("to_k")
            outputs = [W @ start for start in starts]
            if not keys:
                outputs = [self._value(e, layer, o) for e, o in zip(edits, outputs, strict=True)]
            h = plain @ W.T if keys and lock == "global" else rest @ W.T + gate @ torch.stack(outputs)
            found[path] = h if linear.bias is None else h + linear.bias.double()
        return found

    @staticmethod
    def _value(edit: Edit, layer: str, start: Tensor) -> Tensor:
        """o*_V of a layer, as either format of artifacts keeps it."""
        if f"output.{layer}" in edit.artifact.tensors:
            return edit.tensor(f"output.{layer}")
        return start + edit.tensor(f"offset.{layer}")

    def _start(self, word: str) -> Tensor:
        """(d,): what K and V read of a word in "a photo of a ..."."""
        text = f"a photo of a {word}"
        return self.encoded(text)[self.place(text, word)]

    def projections(self) -> dict[str, nn.Linear]:
        """`to_k` and `to_v` of every layer that reads text, found by their names alone."""
        named = self.base.denoiser.named_modules()
        return {path: module for path, module in named if path.endswith(("attn2.to_k", "attn2.to_v"))}

    # In the pipeline

    @contextmanager
    def edited(
        self, texts: Sequence[str], edits: Sequence[Edit], lock: str, order: Sequence[int]
    ) -> Iterator[None]:
        """A context in which the stock denoiser answers as if it were edited.

        texts: what it is asked of. edits: of all of them; their residuals of those that call their words.
        order: of texts in what a pipeline asks, at once or one after the other.
        """
        emitted = [self.emitted(text, edits, lock) for text in texts]
        handles, calls = [], _Calls(order)
        for path, linear in self.projections().items():
            given = [one[path] for one in emitted]
            handles.append(linear.register_forward_hook(calls.replaced(path, given)))
        if any(edit.residual for edit in edits):
            handles += _Residuals(self, texts, edits, emitted, calls).attach()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@dataclass(frozen=True, eq=False)
class _Calls:
    """Which texts a module is asked of: all of `order` at once, or one after the other."""

    order: Sequence[int]

    def __post_init__(self) -> None:
        self.__dict__["counts"] = {}

    def rows(self, name: str, count: int) -> list[int]:
        if count == len(self.order):
            return list(self.order)
        at = self.__dict__["counts"].get(name, 0)
        self.__dict__["counts"][name] = at + 1
        return [self.order[at % len(self.order)]]

    def replaced(self, path: str, given: Sequence[Tensor]) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            rows = self.rows(path, len(output))
            return torch.stack([given[row][: output.shape[1]] for row in rows]).to(output)

        return hook


class _Residuals:
    """Concepts' residuals, each where its word has the attention of the layers within the same block: the one
    of a transformer's block, and all between `proj_in` and `proj_out` of a UNet."""

    def __init__(
        self,
        hand: ByHand,
        texts: Sequence[str],
        edits: Sequence[Edit],
        emitted: Sequence[Mapping[str, Tensor]],
        calls: _Calls,
    ) -> None:
        self.hand, self.texts, self.emitted, self.calls = hand, texts, emitted, calls
        self.edits = [edit for edit in edits if edit.residual]
        self.shares: dict[str, Tensor] = {}
        self.strengths = [edit.residual * self._open(edit, edits) for edit in self.edits]

    def _open(self, edit: Edit, edits: Sequence[Edit]) -> float:
        """How far its gate is open at its word beside how far it was in training, 1 at most."""
        text = next(text for text in self.texts if edit.word in text.split())
        e = self.hand.encoded(text, edits)[self.hand.place(text, edit.word)]
        i = edit.tensor("target_input")
        v = torch.linalg.solve(ridged(self.hand.C), i)
        similarity, train = e @ v / (i @ v), edit.artifact.card.train
        now, then = (
            torch.sigmoid((similarity - bias) / temperature)
            for bias, temperature in ((edit.bias, edit.temperature), (train.bias, train.temperature))
        )
        return min(1.0, float(now / then))

    def attach(self) -> list[Any]:
        denoiser, handles = self.hand.base.denoiser, []
        names = [name for name in self.edits[0].artifact.tensors if name.startswith("residual_up.")]
        for block in [name.removeprefix("residual_up.") for name in names]:
            projection = denoiser.get_submodule(block)
            owner = block.rpartition(".to_out")[0]
            if isinstance(getattr(projection, "proj_out", None), nn.Module):
                projection, owner = projection.proj_out, block
            for path, module in denoiser.named_modules():
                if path.endswith("attn2") and (path == owner or path.startswith(f"{owner}.")):
                    look = self._look(block, path)
                    handles.append(module.register_forward_pre_hook(look, with_kwargs=True))
            handles.append(projection.register_forward_hook(self._add(block)))
        return handles

    def _look(self, block: str, path: str) -> Any:
        def watch(attention: Any, inputs: tuple[Tensor, ...], options: dict[str, Any]) -> None:
            hidden = inputs[0] if inputs else options["hidden_states"]
            rows = self.calls.rows(f"look {path}", len(hidden))
            K = [self.emitted[row][f"{path}.to_k"] for row in rows]
            found = [self._share(attention, hidden[b], K[b], row) for b, row in enumerate(rows)]
            share = torch.stack(found)
            self.shares[block] = self.shares[block] + share if block in self.shares else share

        return watch

    def _share(self, attention: Any, hidden: Tensor, K: Tensor, row: int) -> Tensor:
        """(p, J): how much of each place's attention each concept's word gets, the mean over heads."""
        text, heads = self.texts[row], attention.heads
        if not self.hand.kind.looks_at_padding:
            K = K[: len(self.hand._ids(text))]
        sides = []
        for x, norm in ((attention.to_q(hidden), attention.norm_q), (K.to(hidden), attention.norm_k)):
            x = x.unflatten(-1, (heads, -1))
            sides.append((x if norm is None else norm(x)).double().transpose(0, 1))
        scores = sides[0] @ sides[1].transpose(-1, -2) / sides[0].shape[-1] ** 0.5
        shares = scores.softmax(-1).mean(0)
        words = [edit.word if edit.word in text.split() else None for edit in self.edits]
        columns = [
            torch.zeros(len(hidden)).double() if word is None else shares[:, self.hand.place(text, word)]
            for word in words
        ]
        return torch.stack(columns, -1)

    def _add(self, block: str) -> Any:
        def change(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            share, x = self.shares.pop(block), inputs[0].double()
            flat = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x  # (B, p, m)
            relative = share / share.amax(1, keepdim=True).clamp_min(1e-300)
            wins = (relative == relative.amax(-1, keepdim=True)).double()
            mask = ((relative - LEAST) / (MOST - LEAST)).clamp(0, 1) * wins / wins.sum(-1, keepdim=True)
            added: Any = 0.0
            for j, (edit, strength) in enumerate(zip(self.edits, self.strengths, strict=True)):
                down, up = (edit.tensor(f"residual_{side}.{block}") for side in ("down", "up"))
                added = added + mask[..., j : j + 1] * (flat @ down.T @ (strength * up).T)
            if x.ndim == 4:
                added = added.transpose(1, 2).unflatten(2, x.shape[-2:])
            return output + added.to(output)

        return change
