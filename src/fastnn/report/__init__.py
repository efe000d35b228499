"""A model and what it makes of rows, as one HTML page without script or network. Called by models and estimators."""

from fastnn.report import curves
from fastnn.report.subject import Layer, Subject
from fastnn.report.writing import check_arguments, write

__all__ = ["Layer", "Subject", "check_arguments", "curves", "write"]
