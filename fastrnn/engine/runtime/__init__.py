"""How functions become machine code and how calls reach it: compiling, the cache, linking, threads, memory.

A function that Python calls is made by `jit.jit`. Kernels call others in three ways:

==========  ===============================================================================================================
inlined     Its body becomes a part of each kernel that calls it: `jit.inlined`; `jit.body_of`, where the types of its
            arguments pick the body; `jit.stub`, where the class of a cell does. For what is small, or has to be optimised
            together with its caller.
linked      It is compiled by itself, once for each tuple of argument types, and called by a symbol: `linking.linked`, also
            on demand, when a call needs it. For what is large, or seldom needed.
by address  It is compiled by itself, and its address is a number, which kernels store, hand to other threads, and call:
            `linking.address`, with `spill` and `fetch` for its arguments. For the pieces of a job that `handover.share`
            hands to the team, for lists of calls, and for the table of activations.
==========  ===============================================================================================================

Intrinsics are no functions of this kind: they are the few instructions that Numba has no word for (views, atomic words,
register tiles), each written in LLVM's language in the module that needs it.
"""
