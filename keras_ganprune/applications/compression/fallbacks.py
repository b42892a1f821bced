"""What is tried if a class of the user's cannot be trained as a copy, or with a teacher."""

from __future__ import annotations

from typing import Any

from keras_ganprune.applications.compression.subjects import ForeignSubject

# Notes in the folder, so that a later process does the same.
_ITSELF, _UNTAUGHT = "the model itself is trained", "no teacher is used"
_WHY = "Something in it holds its networks, such as a function."
#: Why the user's model is trained, if a copy trained its networks.
TRAINED = f"a copy trained the networks of your model. {_WHY}"


class NotACopyError(Exception):
    """The training of a copy changed the user's model."""


def as_before(trainer: Any) -> None:
    """Leave out what an earlier process could not do."""
    reason = trainer.folder.get(_ITSELF)
    if reason:
        train_itself(trainer, reason)
    reason = trainer.folder.get(_UNTAUGHT)
    if reason:
        _leave_teacher_out(trainer, reason)


def train_itself(trainer: Any, reason: str) -> None:
    """Train the user's model itself from now on, from the state that it was passed in."""
    trainer.subject.train_itself(reason)
    trainer.folder.put(_ITSELF, reason)
    trainer.subject.restore()


def _leave_teacher_out(trainer: Any, reason: str) -> None:
    trainer.subject.teaches = False
    trainer.folder.put(_UNTAUGHT, reason)
    trainer.notes.append(
        f"No teacher was used, since the training step of this class did not run with it ({reason})."
    )


def run_otherwise(trainer: Any, task: Any, error: Exception) -> Any:
    """Run a task without a teacher, or train the user's model instead of a copy, or both.

    The step may keep tensors where a teacher cannot use them, or a function may hold the networks.

    Args:
        trainer: The `Trainer`.
        task: The `Task`.
        error: What the task has raised.

    Returns: The finished training; None if nothing helps.
    """
    subject, name = trainer.subject, type(error).__name__
    if not isinstance(subject, ForeignSubject):
        return None
    copies, teaches = subject.has_copies, subject.teaches
    taught = teaches and trainer.teacher is not None and task.kind != "dense"
    ways = [(True, False)] * (copies and taught) + [(False, teaches)] * copies
    ways += [(False, False)] * taught
    for has_copies, with_teacher in ways:
        subject.has_copies, subject.teaches = has_copies, with_teacher
        itself = f"its copy could not be trained ({name}). {_WHY}" * (copies and not has_copies)
        # Before the training: a killed run must not begin with a copy again.
        if itself:
            trainer.folder.put(_ITSELF, itself)
            subject.restore()
        try:
            trained = trainer.run_once(task)
        except Exception:  # the first error is the one that the user's own code causes
            if itself:
                trainer.folder.put(_ITSELF, None)
            continue
        if itself:
            subject.train_itself(itself)
        if taught and not with_teacher:
            _leave_teacher_out(trainer, name)
        return trained
    subject.has_copies, subject.teaches = copies, teaches
    if copies:
        subject.restore()
    return None
