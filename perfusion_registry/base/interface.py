"""What every loaded base can do: the interface that the rest of the package speaks.

The mathematics needs of a base that prompts become what K and V read, that what they emit can be put in
their place, and that latents can be noised and denoised. One file of `base/architectures/` says how, for one
kind of base; what pictures are drawn by is in `base/drawing.py`. Importing this needs no torch.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from perfusion_registry.base.drawing import DrawingBase

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from perfusion_registry.base.adaptation import Adaptation
    from perfusion_registry.base.attention import AttentionRecorder
    from perfusion_registry.base.autoencoder import Posterior
    from perfusion_registry.base.bank import Bank
    from perfusion_registry.base.changes import Changes
    from perfusion_registry.base.conditioning import Conditioning, Embeddings
    from perfusion_registry.base.forms import Form
    from perfusion_registry.base.layers import CrossAttention, ModuleSlot, ResidualBlock
    from perfusion_registry.base.objective import Objective
    from perfusion_registry.base.readers import Reader
    from perfusion_registry.base.residual_masks import Mask
    from perfusion_registry.base.residuals import Factors
    from perfusion_registry.base.scorer import Scorer
    from perfusion_registry.base.thin import Thin
    from perfusion_registry.base.tokens import ChunkEnd, ConceptPiece, Tokens


@dataclass(frozen=True, eq=False, kw_only=True)
class Base(DrawingBase):
    """A base in memory, in evaluation mode, with every parameter frozen.

    dtype: of its weights. compute_dtype: what `autocast` computes in; equal to `dtype` where autocast does
    nothing. scorer: the CLIP model that comes with the base, or None.

    Safe to share between threads: what is not is done inside of `attached` or `exclusive`, which one thread
    has at a time.
    """

    dtype: torch.dtype
    compute_dtype: torch.dtype
    scorer: Scorer | None = None

    attends_to_padding: ClassVar[bool] = True
    """Whether cross-attention looks at padding positions too, which then belong into C."""
    reads_in_chunks: ClassVar[bool] = False
    """Whether a long prompt becomes several chunks. Else it is cut, and breaks are nothing."""

    # Text

    @property
    def text_device(self) -> torch.device:
        """Where its text encoders compute: where it draws, unless that is offloaded. What Eq. 4 makes of
        their encodings is made where the bank is."""
        return self.embedding_tables[0].weight.device

    @abstractmethod
    def tokenise(self, pieces: Sequence[str | ConceptPiece | ChunkEnd], *, whole: bool = True) -> Tokens:
        """Tokenise a prompt, padded to the base's length, or to so many chunks of it as it needs; each
        concept piece becomes its tokens.

        Without `whole`, or where the base does not read in chunks, a prompt that is too long is cut, as the
        pipeline itself would, and `dropped` says what is lost. Raises PerfError when a supercategory is no
        token at all, or when a concept would be lost.
        """

    @abstractmethod
    def tokenise_captions(self, captions: Sequence[str]) -> list[Tokens]:
        """Tokenise many texts without concepts, cut at the base's length and not padded. Only `ids` and
        `length` are filled."""

    @abstractmethod
    def encode(
        self, prompts: Sequence[Tokens], embeddings: Embeddings | None = None, *, length: int | None = None
    ) -> Conditioning:
        """What K and V read of B prompts; without `embeddings`, exactly what the pipeline encodes.

        embeddings: to use in the place of concept pieces' own; gradients flow to them. length: pad to so many
        positions; by default to the longest of the prompts. Computed in fp32 even inside `autocast`, because
        C^-1 amplifies rounding. The text encoders are unchanged afterwards.
        """

    @property
    @abstractmethod
    def text_length(self) -> int:
        """How many positions a text encoder reads at once, padding included."""

    @property
    @abstractmethod
    def embedding_tables(self) -> Sequence[nn.Embedding]:
        """The token embeddings of each text encoder."""

    @property
    def embedding_scales(self) -> Sequence[float]:
        """How much wider the numbers of each table spread than those of CLIP's, which rates of learning are
        for."""
        return [1.0] * len(self.embedding_tables)

    @abstractmethod
    def several_tokens(self, word: str) -> str | None:
        """What to tell of a supercategory that is several tokens to this base; None where it is one."""

    def unknown_words(self, texts: Sequence[str]) -> list[str]:
        """The words in a prompt that this base has never seen, where that is known: of a small vocabulary."""
        return []

    def without_negative(self, empty: Conditioning) -> Conditioning:
        """What guidance leads away from where no negative prompt is given.

        empty: the empty prompt, as it is encoded or packed. Returns it, or in its format what the base has
        in its place.
        """
        return empty

    # Adapters

    @property
    def text_models(self) -> Mapping[str, nn.Module]:
        """The text encoders that `encode` asks, by the names that adapters have for them; none where adapters
        cannot be drawn with this kind of base."""
        return {}

    def text_changed(
        self, changes: Sequence[tuple[Mapping[str, Changes], float]]
    ) -> AbstractContextManager[None]:
        """A context in which `encode` in this thread has adapters in the text encoders: changes by encoder
        and path, and how strongly each applies."""
        from perfusion_registry.base.changes import text_changed

        return text_changed(self.text_models, changes)

    # Denoising

    @property
    @abstractmethod
    def denoiser(self) -> nn.Module:
        """The network that is asked at every step."""

    @property
    @abstractmethod
    def cross_attentions(self) -> Sequence[CrossAttention]:
        """Its layers that read text, in the order of execution. Raises PerfError for a denoiser whose layers
        cannot be worked with."""

    @property
    @abstractmethod
    def residual_blocks(self) -> Sequence[ResidualBlock]:
        """Its transformer blocks, in the order of execution."""

    @property
    def caption_projection(self) -> Sequence[ModuleSlot]:
        """The modules that all text passes through on its way to the layers, in their order; none where the
        layers read the text encoder's states as they are."""
        return ()

    @property
    def readers(self) -> Sequence[Reader]:
        """Networks beside the denoiser that read the same prompt, such as a ControlNet; mostly none."""
        return ()

    @cached_property
    def bank(self) -> Bank:
        """The K and V projections of all `cross_attentions`."""
        from perfusion_registry.base.bank import Bank

        return Bank.of(self.cross_attentions, self.caption_projection)

    @property
    def form(self) -> Form:
        """The form that edited prompts are drawn in (`base.forms`)."""
        from perfusion_registry.base.forms import form_of

        return form_of(self.bank)

    @cached_property
    def objective(self) -> Objective:
        """What the denoiser was trained to answer. Raises PerfError where nothing can be trained with it."""
        from perfusion_registry.base.objective import Diffusion

        return Diffusion.of(self.pipe.scheduler)

    def denoise(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of the denoiser, in `autocast`; to be made inside of `exclusive` or `attached`.

        x: (B, c, h, w). t: (B,), or one time for all. conditioning: of B prompts, as `encode` gives them, or
        packed where a composition is attached. Returns its answer (B, c, h, w) in fp32; gradients flow.
        """
        with self.autocast(), self.bank.behind_captions():
            return self.answer(x, t, conditioning.to(self.device)).float()

    @abstractmethod
    def answer(self, x: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """What `denoise` calls: the denoiser itself, with its inputs in its own format, whatever else it has
        to be told, and its answer cut to (B, c, h, w)."""

    # Pictures

    @abstractmethod
    def latents(self, images: Tensor) -> Posterior:
        """The posteriors of images (N, 3, H, W) in 0..1, in the denoiser's units."""

    @abstractmethod
    def pictures(self, latents: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) fp32 in 0..1 of latents (B, c, h, w)."""

    @abstractmethod
    def reconstructed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in 0..1 as the autoencoder gives them back, on the CPU."""

    # Use by one thread at a time

    def autocast(self) -> AbstractContextManager[Any]:
        """The context to run denoiser and autoencoder in; it does nothing where weights and products
        agree."""
        if self.compute_dtype == self.dtype:
            return nullcontext()
        import torch

        return torch.autocast(self.device.type, dtype=self.compute_dtype)

    @contextmanager
    def exclusive(
        self, beside: Sequence[Reader] = (), within: AbstractContextManager[Any] | None = None
    ) -> Iterator[None]:
        """A context in which this thread alone uses the denoiser and its `readers`, as they are; others wait.

        beside: further readers. within: a context that is entered once it is this thread's turn. Hold it for
        one batch, never across a `yield`. Raises PerfError inside of itself or of `attached`.
        """
        from perfusion_registry.base.exclusive import exclusive

        networks = {reader.network for reader in (*self.readers, *beside)}
        with ExitStack() as turns:
            for network in sorted({self.denoiser, *networks}, key=id):
                turns.enter_context(exclusive(network))
            if within is not None:
                turns.enter_context(within)
            yield

    @contextmanager
    def attached(
        self,
        residuals: Sequence[Factors] = (),
        *,
        everywhere: bool = False,
        masks: Sequence[Mask] = (),
        adaptation: Adaptation | None = None,
        beside: Sequence[Reader] = (),
        within: AbstractContextManager[Any] | None = None,
        thin: Thin | None = None,
    ) -> Iterator[None]:
        """A context, `exclusive`, in which the denoiser takes packed in the place of text, or the thin form.

        Packed is (B, n, D + J' + d), fp32, a row for each token of B prompts; the last two parts may be
        absent. *The first D columns*, in the order of the bank, are what the K and V projections emit,
        `E_perp W^T + G O`, without their biases: in the place of each projection stands a slice of them, to
        which its own bias is added (`Bank.attached`). In the thin form `thin.columns(d)` stand in their place
        (`Thin.given`), and D below is these. *J' columns*, J rounded up to `ALIGNED`, mark the
        tokens of J concepts: 1 at the tokens that call a concept, 0 elsewhere (`marked`; where that is all of
        a row, the sample is left alone). In each transformer block the residual of a concept, B A x with
        A (r, m) and B (m', r), is added to what the output projection writes, at the places whose
        cross-attention in that very block and step goes to its tokens: from a quarter to half of the greatest
        share, for the strongest concept of each place only (`edit.localised`). *The last d columns* are plain
        encodings E, for the base's `readers` (`beside`); without readers there are none.

        residuals: of J concepts, by block path, at full strength. everywhere: packed has no marks, and every
        residual is added at every place of every sample, as in training. masks: of each residual, where it
        applies instead (`residual_masks.Mask`). adaptation: concepts' adapters; the
        marks of those that have regions follow the residuals' columns, and behind the D + J' columns are as
        many of the prompt that regions are found by, and its pooled vector (`Regions`). beside, within: as in
        `exclusive`. thin: of the prompts (`Conditioning.thin`); None for packed.
        Gradients flow to packed and to the factors. On leaving the very same modules are back, whatever
        happened inside. Raises PerfError where a composition is attached already, and for residuals that do
        not fit.
        """
        from perfusion_registry.base.adaptation import adapted
        from perfusion_registry.base.readers import readers_attached
        from perfusion_registry.base.residuals import aligned, residuals_attached

        attentions, D = self.cross_attentions, self.bank.columns(thin)
        adapters: AbstractContextManager[None] = nullcontext()
        if adaptation is not None:
            first = D + len(residuals)
            width = D + aligned(len(residuals) + adaptation.marked)
            adapters = adapted(self.denoiser, attentions, adaptation, width, first, self.noise_steps)
        with (
            self.exclusive(beside, within),
            self.taking_encodings(),
            adapters,  # behind the very modules, before others stand in for them
            self.bank.attached(thin),
            readers_attached((*self.readers, *beside), D, self.bank.width),
            residuals_attached(
                self.residual_blocks, attentions, residuals, everywhere=everywhere, masks=masks
            ),
        ):
            yield

    def taking_encodings(self) -> AbstractContextManager[None]:
        """A context in which pipelines take what `inputs` gives. Most always do."""
        return nullcontext()

    def recorder(
        self, positions: Sequence[Sequence[int]], latent_size: tuple[int, int], every: int = 1
    ) -> AttentionRecorder:
        """A context that records how much each place of the picture attends to chosen tokens; see
        `AttentionRecorder`."""
        from perfusion_registry.base.attention import AttentionRecorder

        return AttentionRecorder(self.cross_attentions, positions, latent_size, every)
