"""Sentences that documents, demo and model cards show, with their labels. None is in the embedded corpus.

`benchmark` records what each variant says to them. A test asks that every shipped one is right, with confidence.
"""

EXAMPLES = {
    "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn.": "positive",
    "The company will lay off 120 people as orders dry up.": "negative",
    "The annual general meeting will be held on 12 April in Helsinki.": "neutral",
    "Shares jumped 14 % after the chipmaker raised its full-year forecast.": "positive",
    "The retailer issued its second profit warning this year.": "negative",
    "The group employs about 2,300 people at six sites in Finland and Sweden.": "neutral",
}
"""Text -> label."""
