"""The only place for names of Numba and llvmlite that are not public, and what each of them is for.

Public, and used anywhere in the engine, is what a program may import by Numba's documentation: `numba` itself,
`numba.types`, `numba.extending`, and `llvmlite.ir`, in which intrinsics are written, with the context and the builder that
they are handed. All else is private: it may change in any release, and is imported in this folder only. A test of imports
holds that.

=============  =========================================================================================================
`dispatcher`   compiles a function at a call: with the compiler's lock, without interrupts (CPUDispatcher)
`pipeline`     one round of optimisation instead of two, fewer passes, parts that are linked only (Compiler, JITCodeLibrary,
               Flags, CPUTargetOptions, pass classes, cpu_target)
`storage`      compiled functions as bytes (CompileResult, serialize.dumps)
`templates`    types of calls (AbstractTemplate, infer, infer_global, signature)
`emit`         helpers of intrinsics (cgutils, populate_array)
`symbols`      LLVM's linker and the host's features (llvmlite.binding)
=============  =========================================================================================================

Tried with Numba 0.62.0 (llvmlite 0.45) and 0.68 (llvmlite 0.50). Releases from 0.62 on are accepted, as pyproject.toml
says; in 0.61 and before, `_module_pass_manager` returns other things.
"""
