"""Networks that only predict: frozen, called, exported. Knows plans and their arrays, no layers and no training."""

from fastnn.serving.frozen import Frozen
from fastnn.serving.int8 import Compared, Int8Predictor
from fastnn.serving.predictor import Predictor

__all__ = ["Compared", "Frozen", "Int8Predictor", "Predictor"]
