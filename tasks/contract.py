"""What a task promises, tried out on records of nobody before a study of it starts.

A task is written by hand, and a slip in it (a mean over losses, a column of outputs that no loss
looks at, a score above 1) trains without a word and ends in a model that is wrong. Everything here
is computed from invented records, so an error may quote all of it. That the layers keep patients
apart bit for bit, which a claim of privacy rests on, is tried by the site (`self_check`).
"""

from __future__ import annotations

import functools
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, assert_never

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from protocol.errors import Code, WardroundError
from protocol.outcomes.base import BaseKind
from protocol.outcomes.binary import Binary
from protocol.outcomes.events import EventCount
from protocol.outcomes.kinds import OutcomeKind
from protocol.outcomes.multiclass import Multiclass
from protocol.outcomes.multilabel import MultiLabel
from protocol.outcomes.ordinal import Ordinal
from protocol.outcomes.regression import Regression
from protocol.outcomes.segmentation import Segmentation
from protocol.outcomes.time_to_event import TimeToEvent
from protocol.study.study import Scalar, TaskReference
from tasks.base import Task
from tasks.flat_model import FlatModel
from tasks.losses.usual import usual_loss
from tasks.random_streams import own_streams
from tasks.schema import SPLIT, Schema, Table

_ROWS = 6
"""Invented records; the last has no value in any column."""
_HEAVIEST = 1000.0
"""Of a class: beyond it, every patient of the class is clipped."""
_CLOSE = 1e-3
"""Relative difference that rounding explains, and other patients do not."""


def check(task: Task) -> None:
    """Raises WardroundError(CONFIGURATION), naming the method and the remedy, where the task breaks
    its contract. Where its own code raises, `detail` holds that code's traceback. Results are kept
    for the process."""
    _checked(type(task), tuple(sorted(task.options.items())))


@functools.cache
def _checked(kind: type[Task], options: tuple[tuple[str, Scalar], ...]) -> None:
    task = kind(**dict(options))
    _declarations(task)
    features = _features(task)
    built = _model(task)
    with torch.no_grad():
        outputs = _outputs(task, built.module, features)
        _several_pictures(task, built)
    labels = _labels(task.outcome)
    _logits(task, built, features)
    _losses(task, outputs, labels)
    _scores(task, outputs, labels)


_KINDS = (
    "Binary()",
    "Multiclass(classes=5)",
    "MultiLabel(labels=3)",
    "Ordinal(levels=4)",
    "Regression(low=0, high=100)",
    "EventCount(most=14)",
    "TimeToEvent(ends=(30, 90, 365))",
    "Segmentation(classes=2, rows=64, columns=64)",
)


def _labels(outcome: OutcomeKind) -> Tensor:
    """(_ROWS, ...) labels of the kind: the lowest first and the highest last, or masks in which the
    classes lie beside one another."""
    if outcome.label_shape:
        pixels = torch.arange(_ROWS * math.prod(outcome.label_shape))
        return pixels.remainder(outcome.extremes[1] + 1).reshape(_ROWS, *outcome.label_shape)
    labels = torch.linspace(*outcome.extremes, _ROWS)
    return labels.round() if outcome.whole else labels


def _declarations(task: Task) -> None:
    own = type(task).__name__
    if not isinstance(task.outcome, BaseKind):
        _refuse(
            f"{own}.outcome is {task.outcome!r}.",
            f"It can be one of {', '.join(_KINDS)}, from wardround. Other labels have to be made "
            "one of these in the site's view.",
        )
    if not isinstance(getattr(task, "schema", None), Schema) or not task.schema.label:
        _refuse(
            f"{own}.schema is no Schema with a label.",
            "Name the columns, the label and what the label means: Schema(COLUMNS, 'label', "
            "'1: ...').",
        )
    if len(task.schema.label_columns) != task.outcome.label_columns:
        _refuse(
            f"{own}.schema makes the label of {len(task.schema.label_columns)} columns, and "
            f"{own}.outcome of {task.outcome.label_columns}.",
            "Name them in this order: Schema(COLUMNS, 'label', '...', labels=('first', 'second')).",
        )
    mask, shape = task.schema.mask, task.outcome.label_shape
    if (() if mask is None else (mask.rows, mask.columns)) != shape:
        _refuse(
            f"{own}.outcome wants {'masks of ' + ' x '.join(map(str, shape)) if shape else 'none'},"
            f" and {own}.schema.masked names {task.schema.masked or 'no picture'}.",
            "Name the picture of which the label is a mask: Schema(..., images=(Image('radiograph',"
            " ..., 64, 64),), masked='radiograph'), with rows and columns as in the outcome.",
        )
    _class_weights(task)
    _class_rates(task)
    if not isinstance(getattr(task, "title", None), str):
        _refuse(f"{own} has no title.", "Say in `title` what the task learns, in a few words.")
    names = [*task.schema.names, SPLIT]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        _refuse(
            f"{own}.schema names the column {twice[0]} twice, or it has a meaning of its own.",
            f"Give each column another name; {names[0]} and {SPLIT} are taken.",
        )
    with _own_code(task, "source_digest"):
        source = task.source_digest()
    try:
        TaskReference(name=task.name, version=task.version, source=source)
    except ValueError:
        _refuse(
            f"{own}.name or {own}.version is not one that a study can carry.",
            "A name has small letters, digits and underscores; a version is 1, 2, 3 ...",
        )


def _class_weights(task: Task) -> None:
    own, weights = f"{type(task).__name__}.class_weights", task.class_weights
    if not weights:
        return
    _one_a_class(own, task.outcome, weights)
    if type(task).losses is not Task.losses:
        _refuse(
            f"{own} weighs the usual loss, and {type(task).__name__}.losses is another.",
            "Weigh patients in `losses`, and leave class_weights out.",
        )
    if not all(0 < weight <= _HEAVIEST for weight in weights):
        _refuse(
            f"{own} has a weight that is not above 0 and at most {_HEAVIEST:g}.",
            "Divide them all by the largest: the clip norm bounds a patient in any case.",
        )


def _class_rates(task: Task) -> None:
    own, rates = f"{type(task).__name__}.class_rates", task.class_rates
    if not rates:
        return
    _one_a_class(own, task.outcome, rates)
    if not all(0 < rate <= 1 for rate in rates) or max(rates) != 1:
        _refuse(
            f"{own} has a share that is not above 0 and at most 1, or none that is 1.",
            "Divide them all by the largest: the class that is rarest trains whole, and the "
            "study's sampling rate says how often.",
        )


def _one_a_class(own: str, outcome: OutcomeKind, constants: tuple[float, ...]) -> None:
    """Refuses what are not constants of the outcome's classes, or all the same."""
    match outcome:
        case Binary():
            classes = 2
        case Multiclass() | Ordinal():
            classes = outcome.number
        case _:
            _refuse(
                f"{own} tells classes apart, of which {outcome!r} has none.",
                "Leave it out, or weigh patients in `losses`.",
            )
    if len(constants) != classes or len(set(constants)) == 1:
        _refuse(
            f"{own} has {len(constants)} numbers, {len(set(constants))} of them different; there "
            f"are {classes} classes.",
            "Give each class one, not all the same: all alike change nothing but the step.",
        )


def _features(task: Task) -> Tensor:
    table = _records(task.schema)
    own = f"{type(task).__name__}.features"
    features = _made(task, table)
    if features.shape[:1] != (_ROWS,) or features.ndim < 2:
        _refuse(
            f"{own} makes {tuple(features.shape)} of {_ROWS} records.",
            "Return one row for each record: (N, ...).",
        )
    if features.dtype not in (np.float32, np.uint8):
        _refuse(
            f"{own} returns {features.dtype}.",
            "Return float32 (`.astype(np.float32)`), or uint8 where it is pictures.",
        )
    if not np.isfinite(features[:-1]).all():
        _refuse(f"{own} makes values that are no numbers.", "Check divisions and logarithms.")
    if not np.isfinite(features[-1]).all():
        _refuse(
            f"{own} makes values that are no numbers where a record's columns are missing.",
            "Turn a missing value into a constant, as `schema.features` does.",
        )
    for row in range(_ROWS):
        alone = _made(task, {name: column[row : row + 1] for name, column in table.items()})
        if alone.shape != (1, *features.shape[1:]) or not _close(alone[0], features[row]):
            _refuse(
                f"{own} makes something else of a record when there are others.",
                "Use public constants instead of a mean, a spread or a fit over the cohort: these "
                "would also be a release of data.",
            )
    return torch.from_numpy(features).float()


def _made(task: Task, table: Table) -> npt.NDArray[np.generic]:
    with _own_code(task, "features"):
        made = task.features(table)
    if not isinstance(made, np.ndarray):
        _refuse(
            f"{type(task).__name__}.features returns a {type(made).__name__}.",
            "Return a NumPy array, (N, ...).",
        )
    return made


def _records(schema: Schema) -> Table:
    """Of nobody; the last has no value in any column, and no picture; the others have all."""
    table = dict(schema.made_up(_ROWS))
    for column in schema.columns:
        values = table[column.name].copy()
        match column.kind:
            case "category":
                values[values == np.array(None)] = column.categories[0]
                values[-1] = None
            case "number":
                values[np.isnan(values)] = column.low
                values[-1] = np.nan
            case never:
                assert_never(never)
        table[column.name] = values
    for image in schema.images:
        table[image.name] = table[image.name].copy()
        table[image.name][-1] = 0
    return table


def _model(task: Task) -> FlatModel:
    own = f"{type(task).__name__}.model"
    with _own_code(task, "model"):
        first = FlatModel(task, 0)
    again = FlatModel(task, 0)
    if not first.layout.size:
        _refuse(f"{own} has nothing to train.", "Leave `requires_grad` on for some parameters.")
    if first.layout != again.layout or not all(
        torch.equal(a, b)
        for a, b in zip(first.module.parameters(), again.module.parameters(), strict=True)
    ):
        _refuse(
            f"{own} builds another model each time.",
            "Draw initial weights from torch alone, whose seed the study sets; give every site "
            "the same layers.",
        )
    return first


def _outputs(task: Task, model: nn.Module, features: Tensor) -> Tensor:
    own = f"The model of {type(task).__name__}"
    train = _run(task, model.train(), features)
    if not _drawn(task, model, features):
        for part in (slice(0, _ROWS // 2), slice(_ROWS // 2, _ROWS)):
            some = _run(task, model, features[part])
            if some.shape != train[part].shape or not _close(some, train[part]):
                _refuse(
                    f"{own} gives a patient another output when there are other patients.",
                    "Treat patients one by one: GroupNorm or LayerNorm instead of BatchNorm, no "
                    "mean or softmax over the first dimension, batch_first=True.",
                )
        _run(task, model, features[:1])  # a sample may have one patient
        if not _close(_run(task, model.eval(), features), train):
            _refuse(
                f"{own} gives other outputs when it evaluates than when it trains.",
                "Return the same logits from `forward` in both; `scores` makes probabilities.",
            )
    return _run(task, model.eval(), features)


def _run(task: Task, model: nn.Module, features: Tensor) -> Tensor:
    own = f"The model of {type(task).__name__}"
    with _own_code(task, "model"), own_streams(0):
        outputs = model(features)
    if not isinstance(outputs, Tensor) or outputs.ndim < 2 or len(outputs) != len(features):
        given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        _refuse(
            f"{own} gives {given} for {len(features)} patients.",
            "Return one tensor with a row for each patient: (B, K), for one logit (B, 1).",
        )
    if not outputs.isfinite().all():
        _refuse(
            f"{own} gives outputs that are no numbers.",
            "Check its first weights, divisions and logarithms.",
        )
    return outputs


def _drawn(task: Task, model: nn.Module, features: Tensor) -> bool:
    """Whether the model draws at random while it trains, as dropout does."""
    made = []
    for seed in (1, 2):
        with _own_code(task, "model"), own_streams(seed):
            made.append(model(features))
    return not torch.equal(*made)


def _several_pictures(task: Task, model: FlatModel) -> None:
    """Where pictures of a record are pooled, neither their order nor what is left over counts."""
    own, table = f"The model of {type(task).__name__}", _records(task.schema)
    before, generator = model.flat.clone(), torch.Generator().manual_seed(0)
    model.flat.add_(0.1 * torch.randn(len(before), generator=generator))

    def answer(name: str, pictures: npt.NDArray[np.uint8]) -> Tensor:
        made = np.ascontiguousarray(_made(task, {**table, name: pictures}))
        return _run(task, model.module.eval(), torch.from_numpy(made).float())

    for image in task.schema.images:
        if image.pooling is None:
            continue
        name, pictures = image.name, table[image.name]
        if not _close(answer(name, pictures[:, ::-1]), answer(name, pictures)):
            _refuse(
                f"{own} gives another output where the pictures {name} of a patient come in "
                "another order.",
                f"Pool what is made of each by their {image.pooling}: "
                "tasks.models.several_pictures.Pooled.",
            )
        alone = pictures.copy()
        alone[:, 1:] = 0
        twice = np.repeat(pictures[:, :1], image.most, axis=1)
        if not _close(answer(name, twice), answer(name, alone)):
            _refuse(
                f"{own} gives another output where a patient has fewer pictures {name} than "
                f"{image.most}.",
                "Leave places without a picture out, as tasks.models.several_pictures.Pooled does: "
                "they hold zeros.",
            )
    model.flat.copy_(before)


def _logits(task: Task, model: FlatModel, features: Tensor) -> None:
    """The usual loss of classes takes logits, which large weights make large."""
    if type(task).losses is not Task.losses or isinstance(task.outcome, Regression | EventCount):
        return
    before, generator = model.flat.clone(), torch.Generator().manual_seed(0)
    model.flat.copy_(30 * torch.randn(len(before), generator=generator))
    with torch.no_grad():
        outputs = model.module.eval()(features)
    model.flat.copy_(before)
    if (outputs != 0).any() and ((outputs >= 0) & (outputs <= 1)).all():
        _refuse(
            f"The model of {type(task).__name__} gives probabilities, and the usual loss makes "
            "some of logits.",
            "Leave the last sigmoid or softmax out: the loss and `scores` have one.",
        )


def _losses(task: Task, outputs: Tensor, labels: Tensor) -> None:
    own, one_each = f"{type(task).__name__}.losses", "Return one loss for each patient, (B,), "
    labels = labels.to(torch.float32)
    outputs = outputs.detach().requires_grad_()
    for rows in (1, _ROWS):
        losses = _of_losses(task, outputs[:rows], labels[:rows])
        if losses.shape != (rows,):
            _refuse(
                f"{own} gives {tuple(losses.shape)} for {rows} patients.",
                one_each
                + "never a mean or a sum (reduction='none'): privacy clips each patient's.",
            )
    if not losses.isfinite().all():
        _refuse(f"{own} gives losses that are no numbers.", "Check divisions and logarithms in it.")
    if not losses.requires_grad:
        _refuse(
            f"{own} gives losses without a gradient.",
            "Compute them from the outputs with torch alone, without detach, item or NumPy.",
        )
    for row in range(_ROWS):
        (slope,) = torch.autograd.grad(losses[row], outputs, retain_graph=True)
        alone = _of_losses(task, outputs[row : row + 1], labels[row : row + 1])
        others = torch.cat([slope[:row], slope[row + 1 :]])
        if others.any() or not _close(alone.detach(), losses[row].detach()):
            _refuse(
                f"{own} makes a patient's loss of other patients' too.",
                one_each + "of that row alone; weights of classes are public constants.",
            )
    every = torch.unique(labels)
    used = sum(_slopes(task, outputs, torch.full_like(labels, label)) for label in every.tolist())
    unused = (torch.as_tensor(used).flatten(1) == 0).all(0)
    if unused.any():
        _refuse(
            f"{own} looks at {int((~unused).sum())} of {len(unused)} outputs of the model.",
            "Let the model give as many outputs as the loss uses, "
            f"{usual_loss(task.outcome).width} by default, or write the loss that uses them.",
        )
    _given_slopes(task, outputs, labels)


def _of_losses(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    with _own_code(task, "losses"):
        losses = task.losses(outputs, labels)
    if not isinstance(losses, Tensor):
        _refuse(
            f"{type(task).__name__}.losses returns a {type(losses).__name__}.",
            "Return a tensor, (B,).",
        )
    return losses


def _slopes(task: Task, outputs: Tensor, labels: Tensor) -> Tensor:
    """(B, ...) absolute: what each output does to the sum of the losses, by autograd."""
    (slopes,) = torch.autograd.grad(_of_losses(task, outputs, labels).sum(), outputs)
    if not slopes.isfinite().all():
        _refuse(
            f"{type(task).__name__}.losses has slopes that are no numbers.",
            "Use functions of logits (binary_cross_entropy_with_logits) instead of a logarithm.",
        )
    return slopes.abs()


def _given_slopes(task: Task, outputs: Tensor, labels: Tensor) -> None:
    with _own_code(task, "slopes"):
        given = task.slopes(outputs.detach(), labels)
    (slopes,) = torch.autograd.grad(_of_losses(task, outputs, labels).sum(), outputs)
    if given.shape != slopes.shape or not _close(given.detach(), slopes):
        _refuse(
            f"{type(task).__name__}.slopes are not the slopes of its losses.",
            "Leave `slopes` out: autograd finds them.",
        )


def _scores(task: Task, outputs: Tensor, labels: Tensor) -> None:
    own, wanted, how = f"{type(task).__name__}.scores", *_wanted_scores(task.outcome)
    low, high = task.outcome.score_range
    outputs = outputs.detach().requires_grad_()
    with _own_code(task, "scores"):
        scores = task.scores(outputs)
    if not isinstance(scores, Tensor) or scores.shape != (_ROWS, *task.outcome.scores_of_one):
        given = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        _refuse(f"{own} gives scores of {given} for {_ROWS} patients.", f"{wanted}.")
    if not (scores.isfinite() & (scores >= low) & (scores <= high)).all():
        _refuse(
            f"{own} gives scores that are no numbers between {low:g} and {high:g}.",
            f"{wanted}: {how}.",
        )
    if task.outcome.adds_up and not _close(scores.detach().sum(1), torch.ones(_ROWS)):
        _refuse(f"{own} gives probabilities that do not add up to 1.", f"{wanted}: {how}.")
    if task.outcome.label_shape:
        _likeliest(task, outputs, scores.detach(), wanted)
    if scores.requires_grad:
        highest = float(labels.max())
        of_highest = scores if scores.ndim == 1 else scores[:, -1]
        (rise,) = torch.autograd.grad(of_highest.sum(), outputs)
        (slope,) = torch.autograd.grad(
            _of_losses(task, outputs, torch.full((_ROWS,), highest)).sum(), outputs
        )
        if ((rise * slope).flatten(1).sum(1) > 0).all():
            _refuse(
                f"{own} gives scores that fall where the loss of label {highest:g} falls.",
                f"{wanted}, and not the other way round.",
            )


def _likeliest(task: Task, outputs: Tensor, scores: Tensor, wanted: str) -> None:
    """Masks that the model gives for certain are those that the loss likes best."""
    classes = task.outcome.extremes[1] + 1
    certain = 50 * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0))
    with _own_code(task, "scores"):
        said = task.scores(certain)
    best = _of_losses(task, certain, said)
    others = (said + 1).remainder(classes)
    if (scores != scores.round()).any() or (_of_losses(task, certain, others) <= best).any():
        _refuse(
            f"{type(task).__name__}.scores gives masks that its losses do not like best.",
            f"{wanted}, the class whose logit is the highest.",
        )


def _wanted_scores(outcome: OutcomeKind) -> tuple[str, str]:
    """What scores are, and how they are made."""
    match outcome:
        case Binary():
            return (
                "Return the probability of label 1, (B,)",
                "torch.sigmoid of a logit, or torch.softmax(outputs, 1)[:, 1]",
            )
        case Multiclass() | Ordinal():
            return "Return the probability of each label, (B, classes)", "torch.softmax(outputs, 1)"
        case MultiLabel():
            return "Return the probability of each label, (B, labels)", "torch.sigmoid(outputs)"
        case EventCount():
            return "Return the expected count, (B,)", "torch.exp, cut to `most` with `clamp`"
        case Regression():
            return (
                "Return the expected label, (B,)",
                "in the label's own unit, cut to the public range with `clamp`",
            )
        case TimeToEvent():
            return (
                "Return the probability of having survived each interval, (B, intervals)",
                "torch.cumprod of one minus the hazard of each",
            )
        case Segmentation():
            return (
                "Return the class of each pixel as float32, (B, rows, columns)",
                "outputs.argmax(1).float()",
            )
    assert_never(outcome)


def _close(values: Tensor | npt.NDArray[np.generic], wanted: object) -> bool:
    return bool(np.allclose(values, np.asarray(wanted), rtol=_CLOSE, atol=_CLOSE))


@contextmanager
def _own_code(task: Task, method: str) -> Iterator[None]:
    """What a task's own method raises becomes an error that names it."""
    try:
        yield
    except WardroundError:
        raise
    except Exception as error:
        name = f"{type(task).__name__}.{method}"
        first = str(error).strip().partition("\n")[0]
        raise WardroundError(
            Code.CONFIGURATION,
            f"{name} raises {type(error).__name__}{': ' + first if first else ''}.",
            remedy=f"Correct it, then try it out: `wardround task check {task.name}`.",
            detail="".join(traceback.format_exception(error)),
        ) from error


def _refuse(problem: str, remedy: str) -> NoReturn:
    raise WardroundError(Code.CONFIGURATION, problem, remedy=remedy)
