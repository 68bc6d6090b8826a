"""Every error that training raises on purpose; each message is one sentence that names the fault and the remedy."""

from __future__ import annotations


class TrainingError(Exception):
    """Root of the errors a user of training can cause and mend."""


class ConfigError(TrainingError):
    """The configuration file or an override on the command line is wrong."""


class DataError(TrainingError):
    """The corpus, a label file, or the token store cannot be used."""


class CheckpointError(TrainingError):
    """A checkpoint cannot be read, or does not belong to this run."""


class ModelError(TrainingError):
    """A model's sizes contradict one another, or an input lies outside what the model was built for."""


class DivergedError(TrainingError):
    """The loss is no longer a number."""


class TeacherError(TrainingError):
    """The teacher of a distillation cannot be reached, or does not translate."""
