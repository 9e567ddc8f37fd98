"""Small text classifiers that never judge a text they were trained on."""
