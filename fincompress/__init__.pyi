from fincompress.serving.classifier import Prediction as Prediction
from fincompress.serving.classifier import TextClassifier as TextClassifier
from fincompress.serving.classifier import load_classifier as load_classifier
