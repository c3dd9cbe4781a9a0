"""Training, evaluation and prediction of models: batches, one step, epochs, what a failed call restores.

Models and estimators call it; it calls layers, losses, metrics and optimizers, and knows no particular model.
"""
