from fincompress.serving import Prediction as Prediction
from fincompress.serving import TextClassifier as TextClassifier
from fincompress.serving import load_classifier as load_classifier
