"""Training data: labelled and unlabelled images, train and validation splits, views, batches; synthetic landscapes."""
