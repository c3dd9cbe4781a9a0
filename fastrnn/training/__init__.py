"""Training, evaluation and prediction of models: batches, updates, epochs, and restoring objects after failed calls.

Called by models and estimators; calls layers, losses, metrics and optimizers, and does not depend on a particular model.

The path of a batch from ``RNNClassifier.fit`` to the compiled kernel, with one line for each function called::

    estimators/base.py       BaseRNN.fit            takes X and y
                             BaseRNN._fit           checks and encodes them, builds the network
                             BaseRNN._many_epochs   says when to stop and what to validate on
    training/loop.py         run_epochs             runs epochs, validates, keeps good weights, calls callbacks
                             _run_batches           cuts an epoch into batches
    training/step.py         Trainer.train          makes one update from a batch, or from each piece of it
                             Trainer._update        loss, gradient, optimizer, metrics
                             Trainer.judge          outputs and loss, gradient of the outputs
    models/sequential.py     Sequential.run         adds the penalties on weights
    models/passes.py         forward                runs the layers one after the other
    layers/recurrent.py      RNN.forward            states of one layer
    layers/cells.py          Cell.forward_sequence  weights and dropout masks of its cell
    engine/recurrence/run.py forward                plans the pass, takes memory
                             _launch                packs weights, shares rows among threads, calls the kernel

A model's ``fit`` calls `run_epochs`, ``train_on_batch`` calls `Trainer.train`. The path of the gradient::

    training/step.py         Trainer._update        has the gradient of the outputs from `Trainer.judge`
    models/sequential.py     Sequential.back        adds the gradients of the penalties
    models/passes.py         backward               goes through the layers from the last one down
    layers/recurrent.py      RNN.backward           has the cache of the pass forward
    layers/cells.py          Cell.backward_sequence gradients of outputs and last states of one layer
    engine/recurrence/run.py backward               plans the pass, takes memory
                             _launch                calls the kernel

Small dense batches take a shorter way: for each shape the cell keeps a `TrainingPass` (engine/recurrence/training_pass.py),
whose `forward` and `backward` call the same kernels. The layers write the gradients of their weights into ``model.grads``,
and `Trainer._update` passes this vector to the optimizer.
"""
