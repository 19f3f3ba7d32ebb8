"""Learning from a stronger encoder: its similarities, or its vectors themselves."""

from __future__ import annotations

from collections.abc import Sequence

from xsearch.core.errors import UsageError
from xsearch.core.extras import require

from .batch import check, gather, processes, similarities

require("torch", "train", "training")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402

COMPARED = ("image-text", "text-image", "image-image", "text-text")


class SimilarityDistillation(nn.Module):
    """KL divergence between the teacher's and the student's rows of similarities.

    For rows a and columns b of student vectors, A and B of the teacher's, all unit length::

        p_i = softmax over j of T A_i . B_j        q_i = softmax over j of s a_i . b_j
        L   = mean over i of KL(p_i || q_i); the mean over `compared`

    Image to text and back: Wu et al. 2023, "TinyCLIP: CLIP Distillation via Affinity Mimicking
    and Weight Inheritance", affinity mimicking, whose cross-entropy differs by the teacher's
    entropy, a constant. Within one kind: Fang et al. 2021, "SEED: Self-supervised Distillation
    for Visual Representation"; an item's similarity with itself is left out here, 1 in any
    encoder. Only similarities meet, so the teacher may have another dimension. `scale` is s,
    `teacher_scale` T.

    Columns are those of all processes, see `batch`. Rows with nothing to compare with count 0.
    """

    def __init__(
        self,
        *,
        compared: Sequence[str] = ("image-text", "text-image"),
        scale: float = 20.0,
        teacher_scale: float = 20.0,
    ) -> None:
        super().__init__()
        unknown = [pair for pair in compared if pair not in COMPARED]
        if unknown or not compared:
            raise UsageError(f"compared = {list(compared)}: some of {', '.join(COMPARED)}")
        if not (scale > 0 and teacher_scale > 0):
            raise UsageError(f"scales {scale} and {teacher_scale}: both must be above 0")
        self._compared = [tuple(pair.split("-")) for pair in compared]
        self._scale = scale
        self._teacher_scale = teacher_scale

    def forward(
        self,
        images: Tensor,
        texts: Tensor,
        teacher_images: Tensor | None = None,
        teacher_texts: Tensor | None = None,
    ) -> Tensor:
        """The loss, a scalar, of images and texts (n, d), and the teacher's of them (n, D).

        A kind that is not compared needs no teacher vectors. No gradient reaches the teacher's.

        Raises UsageError: no rows, shapes that do not match, teacher vectors missing.
        """
        check(images, texts)
        student = {"image": images, "text": texts}
        teacher = {"image": teacher_images, "text": teacher_texts}
        total = images.new_zeros((), dtype=torch.float32)
        gathered = {
            kind: _gather_both(student[kind], teacher[kind], kind)
            for kind in dict.fromkeys(kind for pair in self._compared for kind in pair)
        }
        for rows, columns in self._compared:
            total = total + self._divergence(gathered[rows], gathered[columns], rows == columns)
        return total / len(self._compared)

    def _divergence(self, rows: _Both, columns: _Both, same_kind: bool) -> Tensor:
        logits = self._scale * similarities(rows.student, columns.all_student)
        wanted = self._teacher_scale * similarities(rows.teacher, columns.all_teacher)
        if same_kind:
            itself = torch.arange(len(logits), device=logits.device)[:, None] + rows.start
            others = torch.arange(logits.shape[1], device=logits.device) != itself
            # Only the other columns: with -inf in their place, 0 times infinity would appear.
            logits = logits[others].view(len(logits), -1)
            wanted = wanted[others].view(len(logits), -1)
        weight = len(logits) * processes() / len(columns.all_student)
        # kl_div's own "batchmean" divides by the rows, of which there is at least one.
        return weight * functional.kl_div(
            logits.log_softmax(dim=1),
            wanted.log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )


class _Both:
    """One kind's vectors here and in all processes, of student and teacher."""

    def __init__(self, student: Tensor, teacher: Tensor) -> None:
        self.student = student.float()
        self.teacher = teacher.detach().to(student.device).float()
        columns, self.start, _ = gather(torch.cat([self.student, self.teacher], dim=1))
        self.all_student = columns[:, : student.shape[1]]
        self.all_teacher = columns[:, student.shape[1] :].detach()


def _gather_both(student: Tensor, teacher: Tensor | None, kind: str) -> _Both:
    if teacher is None:
        raise UsageError(f"distillation of {kind} similarities needs the teacher's {kind} vectors")
    if teacher.ndim != 2 or len(teacher) != len(student):
        raise UsageError(
            f"{len(student)} {kind} vectors need as many of the teacher, got {tuple(teacher.shape)}"
        )
    return _Both(student, teacher)


class AnchorDistillation(nn.Module):
    """Cosine distance of vectors x to their anchors t, a teacher's vectors in the same space::

        L = mean over i of 1 - cos(x_i, t_i)

    Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using
    Knowledge Distillation", section 2: a sentence, and its translation, come to lie where the
    teacher puts the sentence. Their squared error, on unit vectors, is twice this. With the
    model's own start as teacher, it keeps a fine-tuned encoder near to what it knew.

    A row without direction (all 0) counts 1.
    """

    def forward(self, vectors: Tensor, teacher: Tensor) -> Tensor:
        """The loss, a scalar, of vectors (n, d) and teacher (n, d).

        Raises UsageError: no rows, or shapes that do not match.
        """
        check(vectors, teacher)
        anchors = teacher.detach().to(vectors.device).float()
        return (1 - functional.cosine_similarity(vectors.float(), anchors, dim=1)).mean()
