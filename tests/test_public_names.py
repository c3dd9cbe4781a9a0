"""Import paths that users may rely on: a release may add some, and takes none away without a word in CHANGELOG.md."""

import importlib
import subprocess
import sys

import pytest

import fastrnn

#: Names by module, as of version 0.1.0.
PUBLIC = {
    "fastrnn": """
        __version__ ConversionError EncoderDecoder Input ModelFileError NonFiniteLossError RNNClassifier RNNRegressor Ragged
        Sequential StandardScaler3D fit_many from_long_frame load load_model per_step save set_random_seed stateful_batches
        warmup batches callbacks cells constraints datasets engine estimators exceptions forecasting initializers interop
        layers losses metrics model optimizers plotting preprocessing random regularizers saving schedules seq2seq sequences
        testing text""",
    "fastrnn.batches": "StatefulBatches stateful_batches",
    "fastrnn.callbacks": """
        CSVLogger Callback CallbackList EarlyStopping History LambdaCallback LearningRateScheduler ModelCheckpoint
        ReduceLROnPlateau TerminateOnNaN""",
    "fastrnn.constraints": """
        Constraint MaxNorm MinMaxNorm NonNeg UnitNorm get max_norm min_max_norm non_neg unit_norm""",
    "fastrnn.datasets": """
        DataNotFoundError Federalist LongTable Series Vowels data_folder federalist_head fetch_etth1 fetch_federalist
        fetch_imdb fetch_japanese_vowels fetch_sms_spam fetch_vic_elec load_airline load_etth1
        load_federalist load_imdb load_japanese_vowels load_sms_spam load_vic_elec read_arff read_long read_ts""",
    "fastrnn.distributed": "Communication DaskBatches DaskRNNClassifier DaskRNNForecaster DaskRNNRegressor communication",
    "fastrnn.estimators": "FastRNNBackend RNNClassifier RNNRegressor cross_val_predict fit_many per_step search_progress",
    "fastrnn.exceptions": "ConversionError ModelFileError NonFiniteLossError NotBuiltError NotCompiledError",
    "fastrnn.forecasting": "make_windows mase seasonal_naive smape",
    "fastrnn.initializers": """
        Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity Initializer LecunNormal LecunUniform Ones
        Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros get""",
    "fastrnn.interop": "from_keras from_onnx from_torch to_c to_keras to_onnx to_torch",
    "fastrnn.layers": """
        Activation ActivityRegularization Bidirectional CustomCell Dense Dropout DropoutWrapper Embedding Flatten GRU
        GRUCell IndRNN IndRNNCell Input InputLayer JANET JANETCell KernelCell LSTM LSTMCell Layer Masking PeepholeLSTM
        PeepholeLSTMCell RNN RepeatVector SimpleRNN SimpleRNNCell StackedRNNCells TimeDistributed Wrapper deserialize
        get_class""",
    "fastrnn.losses": """
        BinaryCrossentropy CategoricalCrossentropy Huber Loss MeanAbsoluteError MeanSquaredError
        SparseCategoricalCrossentropy get""",
    "fastrnn.metrics": """
        AUC Accuracy BinaryAccuracy BinaryCrossentropy CategoricalAccuracy CategoricalCrossentropy Mean
        MeanAbsoluteError MeanMetricWrapper MeanSquaredError Metric RootMeanSquaredError SparseCategoricalAccuracy
        SparseCategoricalCrossentropy get""",
    "fastrnn.model": "Model Sequential load_model",
    "fastrnn.optimizers": "Adagrad Adam Optimizer RMSprop SGD get",
    "fastrnn.inspection": "DeletionCurve attributions deletion_curve gradient_norms hidden_states",
    "fastrnn.plotting": """
        AttributionDisplay GradientFlowDisplay HiddenStateDisplay LossCurveDisplay plot_forecast plot_learning_curves""",
    "fastrnn.preprocessing": """
        CalendarFeatures LagFeatures RobustScaler3D SequenceDifferencer SequenceImputer SequencePadder SequenceResampler
        StandardScaler3D sliding_windows""",
    "fastrnn.random": "set_random_seed",
    "fastrnn.regularizers": """
        L1 L1L2 L2 OrthogonalRegularizer Regularizer get l1 l1_l2 l2 orthogonal_regularizer""",
    "fastrnn.saving": "load load_weights save save_weights",
    "fastrnn.schedules": """
        CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay LearningRateSchedule PiecewiseConstantDecay
        PolynomialDecay get""",
    "fastrnn.seq2seq": "EncoderDecoder",
    "fastrnn.sequences": "Ragged StatefulBatches from_long_frame stateful_batches",
    "fastrnn.streaming": "Stream",
    "fastrnn.testing": "check_cell",
    "fastrnn.text": "FILTERS Tokenizer pad_sequences text_to_word_sequence text_windows",
    "fastrnn.cells.gru": "GRU",
    "fastrnn.cells.lstm": "LSTM",
    "fastrnn.cells.simple_rnn": "SimpleRNN",
    "fastrnn.engine": "",
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_can_be_imported(module):
    found = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(found, name)] == []


def test_public_names_are_what_the_package_lists():
    assert set(PUBLIC["fastrnn"].split()) <= set(fastrnn.__all__)
    assert set(fastrnn.__all__) <= set(dir(fastrnn))
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'RNNClasifier'"):
        fastrnn.RNNClasifier  # noqa: B018


def test_import_of_the_package_loads_neither_the_compiler_nor_scikit_learn():
    heavy = ("numba", "sklearn", "scipy", "pandas", "matplotlib")
    code = f"import sys, fastrnn; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
