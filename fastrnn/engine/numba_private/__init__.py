"""All uses of private names of Numba and llvmlite.

Public names are those that Numba's documentation describes: `numba`, `numba.types`, `numba.extending`, and `llvmlite.ir` for
intrinsics, with the context and the builder that they get. They may be used anywhere in the engine. All other names are
private, may change in any release, and are imported only in this folder, which a test checks.

=============  =========================================================================================================
`services`     chooses the path, and is what the rest of the engine imports: the modules below it, or `stock`
`stock`        the stock path: kernels compiled by public names only
`dispatcher`   compiles a function at a call: with the compiler's lock, without interrupts (CPUDispatcher)
`pipeline`     one round of optimisation instead of two, fewer passes, code that is only linked (Compiler, JITCodeLibrary,
               Flags, CPUTargetOptions, pass classes, cpu_target)
`background`   LLVM's work in threads, without llvmlite's lock (llvmlite.binding.ffi, llvm_bindings, config)
`front_end`    less work before LLVM (Lower, NativeLowering, register_pass, analysis, callconv,
               ir, postproc, transforms, utils)
`storage`      compiled functions as bytes (CompileResult, NumbaPickler, rtsys)
`templates`    types of calls (AbstractTemplate, infer, infer_global, signature)
`emit`         helpers of intrinsics (cgutils, data_model_manager)
`symbols`      LLVM's linker and the host's features (llvmlite.binding)
=============  =========================================================================================================

Tried with Numba 0.62.0 (llvmlite 0.45) and 0.68 (llvmlite 0.50). Releases from 0.62 on are accepted, as pyproject.toml
says; in 0.61 and before, `_module_pass_manager` returns other things. A newer release than those tried gets the stock path.
"""
