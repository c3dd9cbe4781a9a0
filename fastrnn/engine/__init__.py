"""The compiled engine: all that knows Numba.

`numba_private` holds what no public name of Numba offers, `runtime` compiles, links, caches and hands work to threads,
`kernels` are functions of arrays, `recurrence` runs cells over sequences, and `equations` makes cells of
functions. Each imports from those before it only.

How a function becomes machine code
-----------------------------------
`runtime.jit` marks a function to be compiled at its first call with arguments of new types. What it calls becomes a part of
it (`inlined`, and the bodies that cells give to stubs) or is compiled once by itself (`runtime.linking`: `separate`, and
`on_demand` for what only some calls need). Numba turns it into LLVM's language, and LLVM into machine code, in one round
(`numba_private.pipeline`). `runtime.cache` keeps the code in a file, so that later processes only load it; loaded code gets
the addresses of the functions that it refers to from LLVM's linker (`numba_private.symbols`).

How a call reaches it
---------------------
`recurrence.run` decides on blocks of rows and threads (`recurrence.plans`), takes memory (`runtime.memory`), has everything
compiled that the call's options need (`runtime.launch`), and calls one kernel. The kernel hands its pieces to the
team of threads by a word in shared memory (`runtime.handover`); `runtime.threads` starts the team, and wakes it. Calls that
come again with the same shapes keep their arguments in place (`recurrence.call_list`, `recurrence.inference`).

What may go wrong, and what is done
-----------------------------------
* A file of code is damaged: its checksum says so; the function is compiled again, with one warning (`runtime.cache`).
* A file or folder belongs to another user, or others may write to it: it is not used, with one warning.
* No folder can be written to: each process compiles again, with one warning.
* Ctrl-C while code is compiled or loaded: it is raised when that is done (`runtime.interrupts`).
* Ctrl-C in a long call: the main thread waits for a helper, which stops between chunks of time steps
  (`runtime.threads.run_interruptibly`).
* A kernel comes to code that was not compiled before the call: it ends there, and this call and all later ones raise
  `RuntimeError` (`runtime.linking.check`). Kernels never call Python.
* Several Python threads call at once: each job of a kernel claims the team, or is done alone.
* The process forks: the fork waits until no thread compiles; the child starts a team of its own.
* Other processes use the cores: where calls wait for the team, it rests for a while.
"""
