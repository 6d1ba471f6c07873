"""What tests of the TensorFlow Lite importer have in common."""

import numpy as np

from mpcc.frontend import import_model
from mpcc.frontend.tflite.schema import read
from mpcc.ir.dialects import DIALECTS
from mpcc.ir.interp import real
from mpcc.ir.text import parse_module, print_module
from mpcc.ir.verify import verify


def converted(tf, source, prepare=lambda converter: None):
    """A file's bytes, of a Keras model or of (function, specs of its arguments by name)."""
    if isinstance(source, tuple):
        run, specs = source
        module = tf.Module()
        given = [tf.TensorSpec(s[:-1], s[-1], name=n) for n, s in specs.items()]
        module.run = tf.function(run, input_signature=given)
        concrete = [module.run.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(concrete, module)
    else:
        converter = tf.lite.TFLiteConverter.from_keras_model(source)
    prepare(converter)
    return converter.convert()


def operators(data):
    """Names of the operators that a file has."""
    return {o.name for o in read(data, "the file").graphs[0].operators}


def answers(tf, data, inputs):
    """What TensorFlow Lite's own interpreter answers, by names of outputs."""
    # Without its faster kernels, whose operators are fused and renamed.
    plain = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(
        model_content=data, experimental_op_resolver_type=plain, num_threads=1
    )
    return interpreter.get_signature_runner()(**inputs)


def compared(tf, data, path, inputs, *, rtol=1e-5, atol=1e-5, **options):
    """Import a file and compare it with TensorFlow Lite on inputs; what was imported."""
    path.write_bytes(data)
    imported = import_model(path, **options)
    verify(imported.module, DIALECTS["tensor"])
    text = print_module(imported.module)
    assert print_module(parse_module(text, DIALECTS)) == text
    have = real.run(imported.module, imported.constants, inputs)
    want = answers(tf, data, inputs)
    assert have.keys() == want.keys() == {p.name for p in imported.outputs}
    for port in imported.outputs:
        assert have[port.name].shape == want[port.name].shape == port.shape, port.name
        a, b = (np.asarray(x[port.name], np.float64) for x in (have, want))
        scale = max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * scale, err_msg=port.name)
    return imported


def made(schema, tensors, operators, inputs, outputs):
    """A file's bytes, put together by hand.

    Args:
        schema: TensorFlow's module of the format.
        tensors: (name, shape, array or type of elements) each; arrays are constants, and a type
            with a star is of what is kept from run to run.
        operators: (operator, inputs, outputs, options) each; options may be None, and an operator
            of others is ``CUSTOM name``.
        inputs: numbers of tensors.
        outputs: likewise.
    """
    import flatbuffers

    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = [schema.BufferT()]
    graph.tensors, graph.operators = [], []
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    for name, shape, content in tensors:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name, list(shape), True
        constant = isinstance(content, np.ndarray)
        tensor.isVariable = not constant and content.endswith("*")
        content = content if constant else content.rstrip("*")
        tensor.type = getattr(
            schema.TensorType, (str(content.dtype) if constant else content).upper()
        )
        tensor.buffer = len(model.buffers) if constant else 0
        if constant:
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = list(content.tobytes())
        graph.tensors.append(tensor)
    for name, given, found, options in operators:
        code = schema.OperatorCodeT()
        name, _, code.customCode = name.partition(" ")
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = list(given), list(found)
        if options is not None:
            operator.builtinOptions = options
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
